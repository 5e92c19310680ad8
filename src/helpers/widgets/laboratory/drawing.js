// ---- drawing: a picture is plain data, made by pure functions; patch() brings what stands in the page up to it ---------------------

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "title", "desc", "defs", "pattern"]);
const create = (tag) => (DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag));

function make(tag, attributes = {}, ...children) {
  const node = create(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== false) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

// A part of a picture or a table, not yet in the page: an element and its children, marks or texts.
const mark = (tag, attributes = {}, ...children) => ({ tag, attributes, children });

const PATCHED = new WeakMap(); // node -> {attributes, children} as patch() left it

function patchAttributes(node, attributes) {
  const before = PATCHED.get(node)?.attributes ?? {};
  for (const name of Object.keys(before)) if (!(name in attributes)) node.removeAttribute(name);
  for (const [name, value] of Object.entries(attributes)) {
    if (before[name] === value) continue;
    if (value === false) node.removeAttribute(name);
    else node.setAttribute(name, value);
  }
}

// Gives a node these attributes and these children. Nodes that are there stay; only what differs from last time is touched.
function patch(node, attributes, children) {
  const before = PATCHED.get(node)?.children ?? [];
  patchAttributes(node, attributes);
  PATCHED.set(node, { attributes, children });
  while (node.childNodes.length > children.length) node.lastChild.remove();
  children.forEach((next, i) => {
    const [last, old] = [before[i], node.childNodes[i]];
    if (last === next && old) return;
    if (typeof next === "string" && typeof last === "string") {
      old.data = next;
      return;
    }
    const keeps = old && typeof next !== "string" && last?.tag === next.tag;
    const child = keeps ? old : typeof next === "string" ? document.createTextNode(next) : create(next.tag);
    if (typeof next !== "string") patch(child, next.attributes, next.children);
    if (keeps) return;
    if (old) old.replaceWith(child);
    else node.append(child);
  });
}

// A picture of this size in an <svg>.
function display(svg, { width, height, marks, ...attributes }) {
  patch(svg, { width, height, viewBox: `0 0 ${width} ${height}`, ...attributes }, marks);
}

// Paints parts of a page, each by a function of its own, at most once a frame; when a frame has taken `budget` ms, the parts
// that are left wait for the next. Who asked first is painted first, so no part starves.
function painter(parts, budget = 6) {
  const due = new Set();
  let frame = 0;
  function paint() {
    frame = 0;
    const until = performance.now() + budget;
    for (const name of [...due]) {
      due.delete(name);
      parts[name]();
      if (performance.now() > until) break;
    }
    if (due.size) frame = requestAnimationFrame(paint);
  }
  return (...names) => {
    for (const name of names) due.add(name);
    frame ||= requestAnimationFrame(paint);
  };
}

// A text that is there already is left alone: a live region would say it again.
const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };

// A bar with its words beside it: at(share, words).
function makeProgress(name, words) {
  const bar = make("progress", { max: 1, value: 0, "aria-label": name, "aria-valuetext": words });
  const text = make("span", { class: "lab-way" }, words);
  return {
    node: make("div", { class: "lab-progress" }, bar, text),
    at(share, now) {
      bar.value = share;
      if (text.textContent === now) return;
      bar.setAttribute("aria-valuetext", now);
      write(text, now);
    },
  };
}

// What a picture is called before there is anything to draw.
const waiting = (name) => [make("title", { id: `${name}-title` }, "Nothing has been trained yet"), make("desc", { id: `${name}-desc` }, "The picture is drawn once networks have trained.")];

const superscript = (n) => String(n).replace(/./g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));

function format(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "none";
  if (!Number.isFinite(value)) return "infinite";
  if (value === 0) return "0";
  const exponent = Math.floor(Math.log10(Math.abs(value)));
  if (exponent >= -4 && exponent < 5) return String(Number(value.toPrecision(digits))).replace("-", "−");
  return `${Number((value / 10 ** exponent).toPrecision(digits))} × 10${superscript(exponent)}`.replace("-", "−");
}
const percent = (value) => `${format(100 * value)} %`;

// Value to pixel on a logarithmic axis; what lies beyond its ends is drawn at them.
function logScale([low, high], [from, to]) {
  return (v) => from + (Math.log10(Math.min(Math.max(v, low), high) / low) / Math.log10(high / low)) * (to - from);
}
