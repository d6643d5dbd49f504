// Streams: names, the ids of a name, the events of one stream.

import {get} from "./api.js";
import {address, h} from "./dom.js";
import {digits, idText, plural, time} from "./format.js";
import {empty, eventTable, heading, pageEnd} from "./parts.js";

const ROWS = 50;

export const names = {
  title: "Streams",
  async render({query, signal}) {
    if (query.get("name") !== null) return ids(query, signal);
    const found = await get("names", {after: query.get("after"), rows: 100}, signal);
    const head = heading("Streams", "Each name holds streams of one kind, told apart by their ids.");
    if (!found.names.length) return {node: h("div", null, head, empty("No streams yet", "A stream is there from its first event on."))};
    return {node: h("div", null, head,
      h("ul", {class: "names"}, found.names.map((name) => h("li", null, h("a", {class: "go", href: address("/streams", {name})}, name),
        h("a", {class: "dim", href: address("/log", {stream: name})}, "its log")))),
      next(found.next && address("/streams", {after: found.next})))};
  },
};

function next(to) {
  return h("nav", {class: "pager", "aria-label": "Pages"},
    to ? h("a", {class: "button", href: to, "data-key": "n"}, "Next page") : h("span", {class: "dim"}, "That is all."));
}

async function ids(query, signal) {
  const name = query.get("name");
  const found = await get("streams", {name, after: query.get("after"), rows: ROWS}, signal);
  const jump = h("form", {class: "filters", onsubmit: (event) => {
    event.preventDefault();
    const id = new FormData(event.target).get("id").trim();
    if (id) location.hash = address("/search", {q: `${name}/${id}`});
  }}, h("label", null, h("span", null, "Go to id"), h("input", {name: "id", autocomplete: "off", spellcheck: "false", maxlength: "255"})),
  h("button", null, "Go"));
  return {
    title: name,
    node: h("div", null,
      heading(name, [h("a", {href: "#/streams"}, "Streams"), " · in the order of ids: numbers, texts, UUIDs"],
        h("a", {class: "button", href: address("/log", {stream: name})}, "Log of all")),
      jump,
      found.streams.length ? h("div", {class: "scroll"}, h("table", {class: "streams"},
        h("thead", null, h("tr", null, ["Id", "Events", "Last", "Last event (UTC)"].map((one, index) =>
          h("th", {scope: "col", class: index === 1 || index === 2 ? "figure" : null}, one)))),
        h("tbody", null, found.streams.map((one) => h("tr", null,
          h("td", null, h("a", {class: "go", href: address("/stream", {name, id: one.id})}, idText(one.id))),
          h("td", {class: "figure"}, digits(one.length)),
          h("td", {class: "figure"}, one.last_sequence === null ? "" : h("a", {href: address("/event/" + one.last_sequence)}, "#" + one.last_sequence)),
          h("td", null, one.last_at ? time(one.last_at) : h("span", {class: "dim"}, "archived"))))))) :
        empty("No more streams", query.get("after") ? "The page before had the last of them." : ""),
      next(found.next && address("/streams", {name, after: found.next}))),
  };
}

export const stream = {
  title: "Stream",
  async render({query, signal}) {
    const name = query.get("name") ?? "";
    const id = query.get("id") ?? "";
    const newest = query.get("order") === "newest";
    const found = await get("stream", {name, id, start: query.get("start"), order: newest ? "newest" : "oldest", rows: ROWS}, signal);
    const here = (more) => address("/stream", {name, id, ...more});
    const archived = found.first === "0" ? "" : ` · the first ${digits(found.first)} were archived`;
    const order = newest ? h("a", {class: "button", href: here({order: "oldest"})}, "Oldest first") :
      h("a", {class: "button", href: here({order: "newest"})}, "Newest first");
    return {
      title: `${name}/${idText(id)}`,
      node: h("div", null,
        heading([name, h("span", {class: "dim"}, "/"), idText(id)],
          [h("a", {href: address("/streams", {name})}, name), ` · ${plural(found.stream.length, "event")}${archived} · id of kind ${id.split(":")[0]}`], order),
        found.events.length ? eventTable(found.events, true).table : found.problem ? null : empty("No events here"),
        pageEnd(found, found.next && here({start: found.next, order: newest ? "newest" : "oldest"}), newest ? "Older" : "Next page")),
    };
  },
};
