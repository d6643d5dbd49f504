// Pieces that several pages have: states, lists of events, buttons to the next page.

import {address, h} from "./dom.js";
import {idText, json, time} from "./format.js";

/** A failure, where its part of the page would be; with a button where trying again may help. */
export function failure(problem, again) {
  return h("div", {class: "state bad", role: "alert"},
    h("strong", null, titleOf(problem)),
    h("p", null, problem.message),
    again && h("button", {type: "button", onclick: again}, "Try again"));
}

function titleOf(problem) {
  if (problem.code === "corrupted_block") return "A block is damaged";
  if (problem.code === "archived") return "This was archived";
  if (problem.kind === "integrity") return "The store is damaged";
  return {ended: "No answer", token: "Not let in", not_found: "Not found"}[problem.code] ?? "This could not be done";
}

/** Nothing there, and why that may be. */
export function empty(title, ...words) {
  return h("div", {class: "state"}, h("strong", null, title), words.length ? h("p", null, words) : null);
}

export function streamLink(row) {
  const to = address("/stream", {name: row.stream ?? row.name, id: row.id});
  return h("a", {href: to, class: "stream"}, row.stream ?? row.name, h("span", {class: "dim"}, "/"), idText(row.id));
}

/** The fields of an event on a line. */
export function fieldsLine(row) {
  if (row.problem) return h("span", {class: "bad-text"}, row.problem);
  const out = h("span", {class: "fields"});
  for (const [name, text] of row.fields) {
    out.append(h("span", {class: "field"}, h("span", {class: "name"}, name), h("span", {class: "dim"}, "="), json(text)), " ");
  }
  return out;
}

function cell(kind, ...children) {
  return h("td", {role: "cell", class: kind}, children);
}

export function eventRow(row, inStream) {
  return h("tr", {role: "row", "data-sequence": row.sequence},
    cell("seq", h("a", {href: address("/event/" + row.sequence), class: "go"}, "#" + row.sequence)),
    cell("time", time(row.recorded_at)),
    inStream ? null : cell("where", streamLink(row)),
    cell("at", "[" + row.stream_sequence + "]"),
    h("td", {role: "cell", class: "type", title: row.type}, row.type),
    cell("what", fieldsLine(row)));
}

/** A table of events, with its body, to which rows can be added. */
export function eventTable(rows, inStream) {
  const titles = ["Global", "Recorded at (UTC)", inStream ? null : "Stream", "At", "Type", "Event"].filter(Boolean);
  const body = h("tbody", {role: "rowgroup"}, rows.map((row) => eventRow(row, inStream)));
  const table = h("table", {role: "table", class: "events"},
    h("thead", {role: "rowgroup"},
      h("tr", {role: "row"}, titles.map((title) => h("th", {role: "columnheader", scope: "col"}, title)))),
    body);
  return {table: h("div", {class: "scroll"}, table), body};
}

/** What stands below a page of events: damage, a search that paused, the way on. */
export function pageEnd(found, next, words) {
  const out = [];
  if (found.problem) {
    out.push(failure(found.problem));
    if (!next) out.push(h("p", {class: "dim"}, "Nothing behind it can be read."));
  }
  if (found.paused) out.push(h("p", {class: "dim"}, "No more were found so far: there is a long way to look through."));
  out.push(h("nav", {class: "pager", "aria-label": "Pages of events"},
    next ? h("a", {class: "button", href: next, "data-key": "n"}, found.problem ? "Go on behind the damage" : words) :
      h("span", {class: "dim"}, found.problem ? "" : "That is all.")));
  return out;
}

/** The heading of a page: title, a line below it, and what stands to the right. */
export function heading(title, below, ...right) {
  return h("div", {class: "heading"},
    h("div", null, h("h1", {tabindex: "-1"}, title), below ? h("p", {class: "dim"}, below) : null),
    right.length ? h("div", {class: "actions"}, right) : null);
}

/** A choice of names, with one for all of them. The one that is chosen is there even where it is not listed. */
export function choice(name, label, all, names, chosen) {
  const listed = chosen && !names.includes(chosen) ? [chosen, ...names] : names;
  const select = h("select", {name}, h("option", {value: ""}, all),
    listed.map((one) => {
      const option = h("option", {selected: one === chosen}, one);
      option.value = one; // as it is, whatever is shown
      return option;
    }));
  return h("label", null, h("span", null, label), select);
}
