// The frame: which page an address means, its states while it loads and where it fails, keys, theme.

import {get} from "./api.js";
import * as consumers from "./consumers.js";
import {address, h, plain, say} from "./dom.js";
import * as event from "./event.js";
import * as live from "./live.js";
import * as log from "./log.js";
import * as overview from "./overview.js";
import {empty, failure, heading} from "./parts.js";
import * as search from "./search.js";
import {names, stream} from "./streams.js";

const PAGES = {"": overview, streams: names, stream, log, event, live, consumers, search};
const MENU = ["#/", "#/streams", "#/log", "#/live", "#/consumers"];
const UNDER = {stream: "#/streams", event: "#/log"};
const SLOW_MS = 200; // before a page that loads says so

const main = document.getElementById("main");
const box = document.querySelector("#search input");
let loading = null; // of the page that is being made
let dispose = null; // of the page that is shown

function parse() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return {path: path.split("/").map(decodeURIComponent), query: new URLSearchParams(query ?? "")};
}

/** Make the page of the address. `again`: it is there already, so that nothing moves while it is made anew. */
async function show(again) {
  loading?.abort();
  const own = loading = new AbortController();
  const {path, query} = parse();
  const page = PAGES[path[0]];
  const slow = setTimeout(() => {
    main.setAttribute("aria-busy", "true");
    if (!again) main.replaceChildren(skeleton(page));
  }, SLOW_MS);
  for (const link of document.querySelectorAll("#nav a")) {
    const here = link.getAttribute("href") === (UNDER[path[0]] ?? "#/" + path[0]);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let made;
  try {
    if (!page) made = {node: h("div", null, heading("No such page"), empty("There is nothing at this address", h("a", {href: "#/"}, "Go to the overview")))};
    else {
      const store = await get("store", {}, own.signal);
      document.getElementById("store").textContent = plain(store.path.split("/").pop());
      made = await page.render({path, query, store, signal: own.signal});
    }
  } catch (error) {
    if (error.name === "AbortError") return clearTimeout(slow);
    if (!error.code) console.error(error);
    made = {node: h("div", null, heading(page.title), failure(error.code ? error : {message: String(error)}, () => show()))};
  }
  clearTimeout(slow);
  if (own.signal.aborted) return made.dispose?.();
  dispose?.();
  dispose = () => { own.abort(); made.dispose?.(); };
  main.removeAttribute("aria-busy");
  main.replaceChildren(made.node);
  const title = made.title ?? page?.title ?? "Nothing here";
  document.title = plain(`${title} · Varve`);
  if (again) return say("Refreshed");
  scrollTo(0, 0);
  if (document.activeElement !== box || path[0] === "search") box.value = path[0] === "search" ? query.get("q") ?? "" : "";
  if (document.activeElement !== box) main.querySelector("h1")?.focus({preventScroll: true});
}

function skeleton(page) {
  return h("div", {class: "skeleton"}, heading(page?.title ?? ""), h("p", {class: "hidden", role: "status"}, "Loading"),
    Array.from({length: 6}, () => h("div", {class: "ghost"})));
}

// -- theme -------------------------------------------------------------------------------------

const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : dark.matches;
}

function labelTheme() {
  theme.textContent = isDark() ? "☀" : "☾";
  theme.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
  theme.title = `${isDark() ? "Light" : "Dark"} colours (t)`;
}

function turn() {
  const next = isDark() ? "light" : "dark";
  // What the system says anyway need not be remembered: then it goes on following the system.
  if ((next === "dark") === dark.matches) {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("varve-theme");
  } else {
    document.documentElement.dataset.theme = next;
    localStorage.setItem("varve-theme", next);
  }
  labelTheme();
}

// -- keys --------------------------------------------------------------------------------------

const KEYS = [
  [["1", "2", "3", "4", "5"], "Overview, Streams, Log, Live, Consumers"],
  [["/"], "Search"],
  [["j", "k"], "Next or previous row, or event; Enter opens a row"],
  [["n"], "Next page of a list"],
  [["p"], "Live: pause and go on"],
  [["r"], "Refresh"],
  [["t"], "Light or dark colours"],
  [["?"], "This list"],
  [["Esc"], "Close this list, leave a field"],
];
const keys = document.getElementById("keys");
keys.append(h("h2", {id: "keys-title"}, "Keyboard"),
  h("dl", {class: "facts"}, KEYS.map(([key, words]) => h("div", null, h("dt", null, key.map((one) => [h("kbd", null, one), " "])), h("dd", null, words)))),
  h("form", {method: "dialog", onsubmit: (event) => { event.preventDefault(); keys.close(); }}, h("button", {autofocus: true}, "Close")));

function walk(step) {
  const links = [...main.querySelectorAll("a.go, .go-in a")];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement?.closest("tr, li")?.querySelector("a.go, .go-in a"));
  links[at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + step))].focus();
}

function press(key) {
  const target = main.querySelector(`[data-key="${key}"]`);
  target?.click();
  return target !== null;
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (/^[1-5]$/.test(event.key)) location.hash = MENU[Number(event.key) - 1];
  else if (event.key === "/") { box.focus(); box.select(); }
  else if (event.key === "?") keys.showModal();
  else if (event.key === "t") turn();
  else if (event.key === "r") show(true);
  else if (event.key === "j" || event.key === "k") { if (!press(event.key)) walk(event.key === "j" ? 1 : -1); }
  else if (event.key === "n" || event.key === "p") press(event.key);
  else return;
  event.preventDefault();
});

theme.addEventListener("click", turn);
dark.addEventListener("change", labelTheme);
document.getElementById("help").addEventListener("click", () => keys.showModal());
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = box.value.trim();
  if (text) location.hash = address("/search", {q: text});
});
addEventListener("hashchange", () => show());
addEventListener("refresh", () => show(true));
labelTheme();
show();
