// The log, filtered.

import {get} from "./api.js";
import {address, h} from "./dom.js";
import {digits} from "./format.js";
import {choice, empty, eventTable, heading, pageEnd} from "./parts.js";

const ROWS = 50;

export const title = "Log";

export async function render({query, signal, store}) {
  const asked = Object.fromEntries(["start", "order", "stream", "type"].map((name) => [name, query.get(name) ?? ""]));
  const oldest = asked.order === "oldest";
  const here = (more) => address("/log", {...asked, ...more});
  const filters = form(asked, store, oldest);
  const head = (end) => heading("Log", end === null ? null : `${digits(end)} events, in the order of commits`);
  let found;
  try {
    found = await get("events", {...asked, rows: ROWS}, signal);
  } catch (error) {
    if (error.kind !== "invalid" && error.code !== "archived") throw error;
    filters.append(h("p", {class: "bad-text", role: "alert"}, error.message));
    return {node: h("div", null, head(null), filters)};
  }
  const body = found.events.length ? eventTable(found.events).table :
    found.problem || found.paused ? null :
      found.next_sequence === "0" ? empty("No events yet", h("a", {href: "#/live"}, "Wait for them in the live view")) :
        empty("No events", "Nothing fits here. ", h("a", {href: "#/log"}, "Show the whole log"));
  return {node: h("div", null, head(found.next_sequence), filters, body,
    pageEnd(found, found.next && here({start: found.next}), found.paused ? "Look further" : oldest ? "Newer" : "Older"))};
}

function form(asked, store, oldest) {
  const submit = (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.currentTarget));
    location.hash = address("/log", {...given, start: given.start.trim()});
  };
  return h("form", {class: "filters", onsubmit: submit, onchange: (event) => { if (event.target.tagName === "SELECT") event.currentTarget.requestSubmit(); }},
    h("label", {class: "grow"}, h("span", null, "Sequence or time"),
      h("input", {name: "start", value: asked.start, placeholder: "1200, 2h, 2025-01-31 12:00", autocomplete: "off", spellcheck: "false", maxlength: "60"})),
    h("label", null, h("span", null, "Order"), h("select", {name: "order"},
      h("option", {value: "", selected: !oldest}, "back from there"), h("option", {value: "oldest", selected: oldest}, "on from there"))),
    choice("stream", "Stream", "all streams", store.names, asked.stream),
    choice("type", "Type", "all types", store.types, asked.type),
    h("button", null, "Show"));
}
