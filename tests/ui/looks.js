// What test_browser.py asks of a page that is shown.

/** Elements that stand out to the right, where nothing scrolls. */
function sticksOut() {
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
    .filter((one) => !one.closest(".scroll, nav, .skip, .hidden, .fields"))
    .map((one) => one.outerHTML.slice(0, 120));
}

function channels(color) {
  const found = color.match(/[\d.]+/g).map(Number);
  const scale = color.startsWith("color(srgb") ? 255 : 1;
  return [...found.slice(0, 3).map((one) => one * scale), found[3] ?? 1];
}

/** Relative luminance, as WCAG 2 has it. */
function luminance(color) {
  const [r, g, b] = color.slice(0, 3).map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function ground(element) {
  for (let at = element; at; at = at.parentElement) {
    const found = channels(getComputedStyle(at).backgroundColor);
    if (found[3] > 0.9) return found;
  }
  return [255, 255, 255, 1];
}

/** Texts whose contrast to what is behind them is below 4.5. */
function pale() {
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.getClientRects().length) continue;
    if (element.closest(".off, .hidden, option, .skeleton")) continue;
    const [one, two] = [channels(getComputedStyle(element).color), ground(element)].map(luminance);
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) bad.push([walk.currentNode.data.slice(0, 30), element.className, contrast]);
  }
  return bad;
}

