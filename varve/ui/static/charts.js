// Charts in plain SVG. Each says in words what it shows, and bars over time can be walked with the arrow keys.

import {address, h, s, say} from "./dom.js";
import {bytes, digits, duration, plural, share} from "./format.js";

const HEIGHT = 100;

/** Events over time. The bar that is looked at is told below; Enter or a click opens the log there. */
export function overTime(rate) {
  const {counts, bucket_s: width} = rate;
  const most = Math.max(...counts, 1);
  const start = Date.parse(rate.start);
  const startOf = (index) => new Date(start + index * width * 1000).toISOString();
  const bars = counts.map((count, index) => {
    const tall = count ? Math.max((count / most) * HEIGHT, 1.5) : 0;
    return s("rect", {class: "bar", x: index + 0.08, y: HEIGHT - tall, width: 0.84, height: tall});
  });
  const rest = `${duration(width)} for each bar, ${plural(most, "event")} at most`;
  const readout = h("p", {class: "readout"}, rest);
  const mark = s("rect", {class: "mark", x: 0, y: 0, width: 1, height: HEIGHT, visibility: "hidden"});
  let at = -1;

  function look(index, aloud) {
    at = index;
    mark.setAttribute("x", index);
    mark.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    const text = index < 0 ? rest : `${startOf(index).slice(0, 19).replace("T", " ")} · ${plural(counts[index], "event")}`;
    readout.textContent = text;
    if (aloud && index >= 0) say(text);
  }
  const open = () => { if (at >= 0) location.hash = address("/log", {start: startOf(at), order: "oldest"}); };
  const indexAt = (event) => {
    const box = chart.getBoundingClientRect();
    return Math.min(counts.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * counts.length)));
  };
  const moves = {ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity};
  const chart = s("svg", {
    class: "over-time", viewBox: `0 0 ${counts.length} ${HEIGHT}`, preserveAspectRatio: "none", tabindex: "0", role: "img",
    "aria-label": `Events over time: ${rest}. Arrow keys look at single bars, Enter opens the log there.`,
    onpointermove: (event) => look(indexAt(event)),
    onpointerleave: () => look(-1),
    onblur: () => look(-1),
    onclick: (event) => { look(indexAt(event)); open(); },
    onkeydown: (event) => {
      if (event.key === "Enter") open();
      else if (event.key in moves) look(Math.min(counts.length - 1, Math.max(0, (at < 0 ? 0 : at) + moves[event.key])), true);
      else return;
      event.preventDefault();
    },
  }, mark, bars);
  const end = startOf(counts.length);
  return h("div", null, chart,
    h("div", {class: "axis"}, h("span", null, startOf(0).slice(0, 16).replace("T", " ")), h("span", null, end.slice(0, 16).replace("T", " "))),
    readout);
}

/** How many of each: `rows` are name and count, `to` makes a name's address. */
export function shares(rows, to, more) {
  const most = Math.max(...rows.map(([, count]) => count), 1);
  const whole = rows.reduce((sum, [, count]) => sum + count, 0);
  const shown = rows.slice(0, more);
  return h("ul", {class: "shares"},
    shown.map(([name, count]) => h("li", null,
      h("a", {href: to(name), title: name}, name),
      s("svg", {class: "share", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true"},
        s("rect", {class: "bar", width: Math.max((count / most) * 100, 0.5), height: 8})),
      h("span", {class: "figure"}, digits(count), h("span", {class: "dim"}, " · " + share(count, whole))))),
    rows.length > more ? h("li", {class: "dim"}, `and ${digits(rows.length - more)} more`) : null);
}

/** Parts of a whole, of bytes: name, bytes, and what that is. */
export function sizes(rows) {
  const whole = rows.reduce((sum, [, count]) => sum + count, 0) || 1;
  let at = 0;
  const bars = rows.map(([, count], index) => {
    const bar = s("rect", {class: "part-" + index, x: (at / whole) * 100, width: (count / whole) * 100, height: 10});
    at += count;
    return bar;
  });
  return h("div", null,
    s("svg", {class: "sizes", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": "What the file holds"}, bars),
    h("dl", {class: "legend"}, rows.map(([name, count, words], index) => count === 0 ? null : h("div", null,
      h("dt", null, s("svg", {class: "swatch", viewBox: "0 0 1 1", "aria-hidden": "true"}, s("rect", {class: "part-" + index, width: 1, height: 1})), name),
      h("dd", null, bytes(count), h("span", {class: "dim"}, ` · ${share(count, whole)}${words ? " · " + words : ""}`))))));
}
