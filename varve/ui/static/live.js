// The live view: events as they are committed, the newest on top.

import {address, h, say} from "./dom.js";
import {digits, plural} from "./format.js";
import {choice, empty, eventRow, eventTable, failure, heading} from "./parts.js";

const ROWS = 300; // that are kept
const HELD = 2000; // that wait while it is paused

export const title = "Live";

export async function render({query, store}) {
  const asked = {stream: query.get("stream") ?? "", type: query.get("type") ?? ""};
  const {table, body} = eventTable([]);
  const status = h("span", {class: "status", role: "status"}, "connecting");
  const count = h("span", {class: "dim figure"}, "no events yet");
  const nothing = empty("Waiting for events", "They appear here as they are committed, by whichever process.");
  const trouble = h("div");
  const button = h("button", {type: "button", "data-key": "p", "aria-pressed": "false", title: "Pause or go on (p)", onclick: pause}, "Pause");
  let source = null;
  let last = null; // where to go on after the page was hidden
  let held = null; // rows, while paused
  let seen = 0;
  table.hidden = true;

  function show(state, words) {
    status.dataset.state = state;
    status.textContent = words;
  }

  function add(rows) {
    if (!rows.length) return;
    body.prepend(...rows.reverse());
    while (body.rows.length > ROWS) body.lastElementChild.remove();
    table.hidden = false;
    nothing.hidden = true;
  }

  function take(rows, events) {
    seen += events;
    count.textContent = plural(seen, "event") + " since this page was opened";
    if (held === null) add(rows);
    else {
      held.push(...rows);
      if (held.length > HELD) held.splice(0, held.length - HELD);
      show("paused", `paused, ${digits(held.length)} wait`);
    }
  }

  function pause() {
    if (held === null) {
      held = [];
      show("paused", "paused");
    } else {
      const rows = held;
      held = null;
      add(rows);
      show(source ? "live" : "off", source ? "live" : "not connected");
    }
    button.setAttribute("aria-pressed", String(held !== null));
    button.textContent = held === null ? "Pause" : "Go on";
  }

  function open() {
    const parameters = new URLSearchParams(Object.entries({...asked, start: last ?? ""}).filter(([, value]) => value !== ""));
    source = new EventSource("/api/tail?" + parameters);
    source.addEventListener("from", (event) => {
      last ??= JSON.parse(event.data).sequence;
      if (held === null) show("live", "live");
    });
    source.addEventListener("events", (event) => {
      last = String(BigInt(event.lastEventId) + 1n);
      const rows = JSON.parse(event.data);
      take(rows.map((row) => eventRow(row)), rows.length);
    });
    source.addEventListener("skipped", (event) => {
      const {first, next} = JSON.parse(event.data);
      last = next;
      const to = address("/log", {start: first, order: "oldest", ...asked});
      take([h("tr", {role: "row", class: "skipped"}, h("td", {role: "cell", colspan: "6"},
        `Too many to show: #${first} to before #${next} were left out here. `, h("a", {href: to}, "See them in the log")))], 0);
    });
    source.addEventListener("problem", (event) => {
      close();
      show("off", "ended");
      trouble.replaceChildren(failure(JSON.parse(event.data), again));
    });
    source.onerror = () => {
      if (source?.readyState === EventSource.CLOSED) {
        close();
        show("off", "not connected");
        trouble.replaceChildren(failure({code: "ended", message: "The explorer refused the live view: it was started again since, or too many are open."}, again));
      } else if (held === null) show("off", "not connected, trying again");
    };
  }

  function close() {
    source?.close();
    source = null;
  }

  function again() {
    trouble.replaceChildren();
    show("off", "connecting");
    open();
  }

  // A browser has few connections to one host: a page that nobody sees gives its own back.
  function visible() {
    if (document.hidden) close();
    else if (source === null && !trouble.firstChild) open();
  }
  document.addEventListener("visibilitychange", visible);
  if (!document.hidden) open();

  const submit = (event) => { location.hash = address("/live", Object.fromEntries(new FormData(event.currentTarget))); };
  return {
    node: h("div", null,
      heading("Live", [status, " ", count], button),
      h("form", {class: "filters", onchange: submit, onsubmit: (event) => { event.preventDefault(); submit(event); }},
        choice("stream", "Stream", "all streams", store.names, asked.stream),
        choice("type", "Type", "all types", store.types, asked.type)),
      trouble, nothing, table),
    dispose() {
      document.removeEventListener("visibilitychange", visible);
      close();
      say("");
    },
  };
}
