// One event: where it stands, its fields, its bytes.

import {get} from "./api.js";
import {address, h} from "./dom.js";
import {bytes, digits, json, time} from "./format.js";
import {failure, heading, streamLink} from "./parts.js";

const LINE = 16;
const SPEAKING = new Set(["value", "text", "bytes", "items", "union type"]);

export const title = "Event";

export async function render({path, query, signal}) {
  const sequence = path[1] ?? "";
  const found = await get("events/" + encodeURIComponent(sequence), {part: query.get("part")}, signal);
  const link = (to, words, key) => to === null ? h("span", {class: "button off", "aria-disabled": "true"}, words) :
    h("a", {class: "button", href: address("/event/" + to), "data-key": key, title: key ? `${words} (${key})` : null}, words);
  return {
    title: "#" + found.sequence,
    node: h("div", null,
      heading(["#" + found.sequence, " ", h("span", {class: "type"}, found.type)],
        [streamLink(found), ` [${found.stream_sequence}]`],
        link(found.previous, "Previous", "k"), link(found.next, "Next", "j")),
      h("div", {class: "cards"},
        h("section", {class: "card"}, h("h2", null, "Fields"), fields(found)),
        h("section", {class: "card"}, h("h2", null, "Recorded"), h("dl", {class: "facts"},
          fact("At", time(found.recorded_at)),
          fact("Commit", h("a", {href: address("/event/" + found.commit_sequence)}, "#" + found.commit_sequence)),
          fact("Size", bytes(found.bytes)),
          fact("Metadata", found.metadata === null ? h("span", {class: "dim"}, "none") : json(found.metadata)),
          fact("In its stream", h("span", {class: "row"}, link(found.previous_in_stream, "Before"), link(found.next_in_stream, "After"))))),
        h("section", {class: "card wide"}, h("h2", null, "Bytes", h("span", {class: "dim"}, ` ${digits(found.bytes)}, each named once`)),
          found.parts.problem ? failure(found.parts.problem) : partsTable(found)))),
  };
}

function fact(name, value) {
  return h("div", null, h("dt", null, name), h("dd", null, value));
}

function fields(found) {
  if (found.problem) return h("p", {class: "bad-text"}, found.problem);
  if (!found.fields.length) return h("p", {class: "dim"}, "It has none.");
  return h("dl", {class: "facts"}, found.fields.map(([name, text]) => fact(name, json(text))));
}

function partsTable(found) {
  const {parts, first, count, next} = found.parts;
  return h("div", null,
    h("div", {class: "scroll"}, h("table", {class: "bytes"},
      h("thead", null, h("tr", null, ["Offset", "Bytes", "What", "Field and value"].map((one) => h("th", {scope: "col"}, one)))),
      h("tbody", null, parts.map(row)))),
    next === null && !first ? null : h("nav", {class: "pager", "aria-label": "Pages of bytes"},
      h("span", {class: "dim"}, `parts ${digits(first + 1)} to ${digits(first + parts.length)} of ${digits(count)}`),
      next && h("a", {class: "button", href: address("/event/" + found.sequence, {part: next}), "data-key": "n"}, "More bytes")));
}

function row(part) {
  const pairs = part.hex.match(/../g) ?? [];
  const lines = [];
  for (let at = 0; at < pairs.length; at += LINE) lines.push(pairs.slice(at, at + LINE).join(" "));
  if (part.size > pairs.length) lines.push(`… ${digits(part.size - pairs.length)} more`);
  return h("tr", {class: SPEAKING.has(part.what) ? "speaking" : null},
    h("td", {class: "offset"}, part.offset.toString(16).padStart(6, "0")),
    h("td", {class: "hex"}, lines.map((line) => h("div", null, line))),
    h("td", {class: "kind"}, part.what),
    h("td", {class: "value"}, part.name ? h("span", {class: "name"}, part.name) : null, part.name && part.value ? h("span", {class: "dim"}, " = ") : null, part.value));
}
