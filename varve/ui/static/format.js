// Numbers, sizes, times and ids as people read them.

import {h, plain} from "./dom.js";

/** Digits in groups: of a number, or of a string of digits however long. */
export function digits(count) {
  return String(count).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  for (const unit of ["KiB", "MiB", "GiB"]) {
    count /= 1024;
    if (count < 1024) return `${count.toFixed(1)} ${unit}`;
  }
  return `${(count / 1024).toFixed(1)} TiB`;
}

export function plural(count, one, many) {
  return `${digits(count)} ${String(count) === "1" ? one : many ?? one + "s"}`;
}

export function share(part, whole) {
  const percent = whole ? (100 * part) / whole : 0;
  return percent && percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(percent < 10 ? 1 : 0)} %`;
}

/** A time in UTC, milliseconds; the whole of it stands in the title. */
export function time(iso) {
  return h("time", {datetime: iso, title: iso + " (UTC)"}, iso.slice(0, 10), " ", iso.slice(11, 23));
}

const STEPS = [
  [86400 * 365.25, "year"], [86400 * 30.44, "month"], [86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"],
];

/** How long a number of seconds is, roughly: "3 hours". */
export function duration(seconds) {
  for (const [width, unit] of STEPS) {
    if (seconds >= width) {
      const count = seconds / width;
      const text = count < 10 && unit !== "second" ? count.toFixed(1).replace(/\.0$/, "") : count.toFixed(0);
      return `${text} ${unit}${text === "1" ? "" : "s"}`;
    }
  }
  return seconds > 0 ? `${(seconds * 1000).toPrecision(2)} ms` : "no time";
}

/** How long ago that was. */
export function ago(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  return seconds < 1 ? "just now" : `${duration(seconds)} ago`;
}

/** An id without its kind; in quotation marks where it is a text that looks like an id of another kind. */
export function idText(id) {
  const kind = id.slice(0, id.indexOf(":"));
  const rest = id.slice(kind.length + 1);
  const looksOther = /^(0|[1-9]\d*)$/.test(rest) || /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(rest);
  return kind === "str" && looksOther ? `"${rest}"` : rest;
}

const TOKENS = /("(?:[^"\\]|\\.)*"?)(\s*:)?|(-?(?:\d[\d.eE+-]*|Infinity)|NaN)|\b(true|false|null)\b/g;

/** JSON text in colours. It is never parsed: a browser's numbers would lose digits. */
export function json(text) {
  const out = h("code", {class: "json"});
  let at = 0;
  for (const found of text.matchAll(TOKENS)) {
    if (found.index > at) out.append(plain(text.slice(at, found.index)));
    const kind = found[1] ? (found[2] ? "key" : "text") : found[3] ? "number" : "word";
    out.append(h("span", {class: "j-" + kind}, found[1] ?? found[0]));
    if (found[2]) out.append(found[2]);
    at = found.index + found[0].length;
  }
  if (at < text.length) out.append(plain(text.slice(at)));
  return out;
}
