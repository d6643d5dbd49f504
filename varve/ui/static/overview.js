// The overview: figures and charts.

import {get} from "./api.js";
import {overTime, shares, sizes} from "./charts.js";
import {address, h} from "./dom.js";
import {ago, bytes, digits, plural, share, time} from "./format.js";
import {empty, failure, heading} from "./parts.js";

const SHARES = 10;

function tile(title, figure, below) {
  return h("div", {class: "tile"}, h("dt", null, title), h("dd", null, figure, below ? h("span", {class: "dim"}, below) : null));
}

function card(title, content, remark, wide) {
  return h("section", {class: wide ? "card wide" : "card"}, h("h2", null, title, remark ? h("span", {class: "dim"}, remark) : null), content);
}

/** A part of the page, or what stands in its way: one damaged block does not make a dead page. */
function part(found, draw) {
  return found.problem ? failure(found.problem) : draw(found);
}

export const title = "Overview";

export async function render({signal, store}) {
  const found = await get("overview", {buckets: innerWidth < 600 ? 36 : 72}, signal);
  const head = heading("Overview", [h("span", {class: "path"}, store.path)],
    h("button", {type: "button", "data-key": "r", title: "Refresh (r)", onclick: () => dispatchEvent(new Event("refresh"))}, "Refresh"));
  const archived = found.first_sequence === "0" ? null : `${digits(found.first_sequence)} more were archived`;
  const span = found.span.problem ? null : found.span;
  const tiles = h("dl", {class: "tiles"},
    tile("Events", digits(found.events), archived),
    tile("Streams", digits(found.streams), plural(found.names, "name")),
    tile("Types", digits(store.types.length + store.types_more), plural(found.types, "version")),
    tile("File", bytes(found.file_bytes), found.events === "0" ? null : `${digits(Math.round(found.used_bytes / Number(found.events)))} bytes per event`),
    tile("Last event", span?.last_at ? ago(span.last_at) : "none", span?.last_at ? time(span.last_at) : null));
  if (found.events === "0") {
    return {node: h("div", null, head, tiles, empty("No events yet", "They appear here when they have been appended. ",
      h("a", {href: "#/live"}, "Wait for them in the live view"), "."))};
  }
  const guessed = found.shares.sampled ? ` estimated from ${digits(found.shares.sampled)} blocks` : "";
  return {node: h("div", null, head, tiles,
    h("div", {class: "cards"},
      card("Events over time", part(found.rate, overTime), null, true),
      card("By stream name", part(found.shares, () => shares(found.shares.names, (name) => address("/streams", {name}), SHARES)), guessed),
      card("By type", part(found.shares, () => shares(found.shares.types, (type) => address("/log", {type}), SHARES)), guessed),
      card("Size", size(found)),
      card("Readers and snapshots", part(found.readers, (readers) => readersTable(readers, found.readers_max)))))};
}

function size(found) {
  const {blocks} = found;
  const about = blocks.sampled ? "about " : "";
  const words = blocks.problem ? "" : `${about}${plural(blocks.blocks, "block")}, ${blocks.events_per_block} events each`;
  const filled = blocks.problem ? "" : ` ${share(blocks.payload_bytes, blocks.block_bytes)} of the blocks' bytes are events.`;
  const named = found.log_bytes + found.index_bytes + found.meta_bytes + found.side_bytes + found.free_bytes;
  return h("div", null,
    sizes([
      ["Log", found.log_bytes, words],
      ["Index", found.index_bytes, ""],
      ["Metadata", found.meta_bytes, "names, types, streams, keys"],
      ["Consumers etc.", found.side_bytes, ""],
      ["Free pages", found.free_bytes, "to be used again"],
      ["The rest", Math.max(0, found.file_bytes - named), ""],
    ]),
    h("p", {class: "dim"}, `The map has ${bytes(found.map_bytes)} of address space: the most that the file can grow to.${filled}`));
}

function readersTable(found, most) {
  const words = h("p", {class: "dim"}, `${plural(found.count, "reader slot")} of ${digits(most)} in use. An old snapshot keeps pages from being used again.`);
  if (!found.readers.length) return h("div", null, h("p", null, "Nobody else reads right now."), words);
  return h("div", null,
    h("div", {class: "scroll short"}, h("table", null,
      h("thead", null, h("tr", null, h("th", {scope: "col"}, "Process"), h("th", {scope: "col"}, "Its snapshot"))),
      h("tbody", null, found.readers.map((one) => h("tr", null,
        h("td", {class: "figure"}, one.pid),
        h("td", null, one.commits_behind === null ? "holds none" : one.commits_behind === 0 ? "the newest" : plural(one.commits_behind, "commit") + " behind")))))),
    words);
}
