// Consumers: where they stand, how far behind, who runs them. Looked at again every few seconds.

import {get} from "./api.js";
import {address, h, s} from "./dom.js";
import {ago, digits, plural} from "./format.js";
import {empty, failure, heading} from "./parts.js";

const AGAIN_MS = 2000;

export const title = "Consumers";

export async function render({signal}) {
  const body = h("div");
  const draw = (found) => body.replaceChildren(found.consumers.length ? table(found) :
    empty("No consumers", "A consumer is a tail with a name, whose position is stored: db.consumer(\"billing\")."));
  draw(await get("consumers", {}, signal));
  let timer = setTimeout(again, AGAIN_MS);

  async function again() {
    try {
      if (!document.hidden && !body.contains(document.activeElement)) draw(await get("consumers", {}, signal));
    } catch (error) {
      if (error.name === "AbortError") return;
      body.replaceChildren(failure(error));
    }
    timer = setTimeout(again, AGAIN_MS);
  }
  return {
    node: h("div", null, heading("Consumers", "Their stored positions, looked at every two seconds."), body),
    dispose: () => clearTimeout(timer),
  };
}

function table(found) {
  const end = Number(found.next_sequence) || 1;
  return h("div", {class: "scroll"}, h("table", {class: "consumers"},
    h("thead", null, h("tr", null, ["Name", "Position", "Behind", "Done", "Changed", "Run by"].map((one, index) =>
      h("th", {scope: "col", class: index === 1 || index === 2 ? "figure" : null}, one)))),
    h("tbody", null, found.consumers.map((one) => h("tr", null,
      h("td", null, one.name),
      h("td", {class: "figure"}, h("a", {href: address("/log", {start: one.position, order: "oldest"})}, "#" + one.position)),
      h("td", {class: "figure"}, one.lag === "0" ? h("span", {class: "good"}, "0") : plural(one.lag, "event")),
      h("td", null, s("svg", {class: "share", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": `${digits(one.position)} of ${digits(found.next_sequence)}`},
        s("rect", {class: "track", width: 100, height: 8}),
        s("rect", {class: "bar", width: Math.min(100, (Number(one.position) / end) * 100), height: 8}))),
      h("td", null, h("time", {datetime: one.updated_at, title: one.updated_at}, ago(one.updated_at))),
      h("td", null, who(one)))))),
  found.count > found.consumers.length ? h("p", {class: "dim"}, `and ${digits(found.count - found.consumers.length)} more`) : null);
}

function who(one) {
  const running = one.members.filter((member) => member.running);
  if (!running.length) return h("span", {class: "dim"}, "nobody");
  const members = one.members.length > 1 ? ` (${running.length} of ${one.members.length} members)` : "";
  return `process ${[...new Set(running.map((member) => member.pid))].join(", ")}${members}`;
}
