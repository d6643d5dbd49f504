// Elements. Text goes into text nodes, always: nothing that a store holds is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

// What turns the direction of writing, ends lines or cannot be seen is spelled out, so that no text looks like another.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]/gu;

export function plain(text) {
  return String(text).replace(UNSAFE, (found) => "\\u" + found.codePointAt(0).toString(16).padStart(4, "0"));
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : plain(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(plain(child)));
  }
}

/** An HTML element: attributes, listeners as `onclick`, children (texts, elements, lists of them). */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An SVG element. */
export function s(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** The address of a page: `address("/log", {start: 5})`. Empty parameters are left out. */
export function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters ?? {})) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return "#" + path + (text ? "?" + text : "");
}

/** Tell those who listen instead of looking. */
export function say(text) {
  document.getElementById("said").textContent = plain(text);
}
