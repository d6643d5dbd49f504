// Search: what a text may mean.

import {get} from "./api.js";
import {address, h} from "./dom.js";
import {digits, plural} from "./format.js";
import {empty, eventTable, failure, heading, streamLink} from "./parts.js";

export const title = "Search";

export async function render({query, signal}) {
  const text = (query.get("q") ?? "").trim();
  const head = heading("Search", text ? ["for ", h("code", null, text)] : null);
  if (!text) return {node: h("div", null, head, hints())};
  const found = await get("search", {q: text}, signal);
  const groups = [];
  const group = (name, ...content) => groups.push(h("section", {class: "card wide"}, h("h2", null, name), content));
  for (const [name, part] of [["Event", found.event], ["Time", found.time], ["Streams", found.streams]]) {
    if (part.problem) group(name, failure(part.problem));
  }
  if (found.event.found) group("Event", eventTable([found.event.found]).table);
  if (found.time.found) {
    const {time, sequence} = found.time.found;
    group("Time", h("p", null, `${time.slice(0, 23).replace("T", " ")} (UTC): `,
      sequence === null ? "nothing was recorded then or later. " : ["the first event from then on is ", h("a", {class: "go", href: address("/event/" + sequence)}, "#" + sequence), ". "],
      h("a", {href: address("/log", {start: time})}, "What came before"), sequence === null ? null : [" · ", h("a", {href: address("/log", {start: time, order: "oldest"})}, "What came then")]));
  }
  if (found.streams.found?.length) {
    group("Streams", h("ul", {class: "names"}, found.streams.found.map((one) => h("li", null,
      h("span", {class: "go-in"}, streamLink(one)), h("span", {class: "dim"}, `${plural(one.length, "event")} · id of kind ${one.id.split(":")[0]}`)))));
  }
  if (found.names.length) group("Stream names", h("ul", {class: "names"}, found.names.map((name) => h("li", null, h("a", {class: "go", href: address("/streams", {name})}, name)))));
  if (found.types.length) group("Types", h("ul", {class: "names"}, found.types.map((type) => h("li", null, h("a", {class: "go", href: address("/log", {type})}, type)))));
  const more = found.streams.names_more ? h("p", {class: "dim"}, `The ids of ${digits(found.streams.names_more)} more stream names were not looked at: write name/id.`) : null;
  return {node: h("div", null, head, groups.length ? h("div", {class: "cards"}, groups) : [empty("Nothing is called that", "Ids have to be written as they are."), hints()], more)};
}

function hints() {
  return h("dl", {class: "facts hints"}, [
    ["1200", "the event at that global sequence"],
    ["2h", "the first event of the last two hours; also 90s, 15m, 3d, 1w"],
    ["2025-01-31 12:00", "the first event from then on, in UTC where no offset is given"],
    ["42", "the streams with that id, whatever their name"],
    ["orders/42", "one stream"],
    ["orders", "stream names and types that contain it"],
  ].map(([example, words]) => h("div", null, h("dt", null, h("a", {href: address("/search", {q: example})}, example)), h("dd", null, words))));
}
