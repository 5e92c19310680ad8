// The one drawing core of the book's widgets (helpers.widgets). No imports and no build step: the same text runs in
// JupyterLab, VS Code, Colab and, without a kernel, in the built page. The model brings
//   chart     what to draw: {kind: "lines" | "bars" | "plane" | "dice", sliders, series, frames, ...}, made by helpers.widgets
//   position  one index for each slider
//   log       whether the vertical axis is logarithmic
// Nothing moves by itself: only a button that a chart asks for (chart.play) moves a slider, slowly where motion is to be
// reduced. KINDS, at the end, holds what is special to a kind of chart; plane.js and dice.js add one each.

const SVG = "http://www.w3.org/2000/svg";
const DASHES = ["", "5 2", "1.2 1.8", "6 2 1.2 2", "9 3"]; // as helpers.plots.DASHES, in line widths
const HATCHES = ["M-1 1l2 -2M0 7l7 -7M6 8l2 -2", "M-1 6l2 2M0 0l7 7M6 -1l2 2"]; // one for each reason to hatch
const LINE = 2; // px
const DECADES = 6; // how far below its largest value a logarithmic axis reaches

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "rect", "circle", "text", "title", "desc", "defs", "pattern", "clipPath"];
  const node = svg.includes(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// ---- numbers -------------------------------------------------------------------------------------------------------

const number = (value) => (value === "inf" ? Infinity : value); // JSON has no infinity
// Least and greatest of any number of values: as arguments of Math.min too many overflow the stack.
const least = (values) => values.reduce((a, b) => (b < a ? b : a), Infinity);
const greatest = (values) => values.reduce((a, b) => (b > a ? b : a), -Infinity);
const superscript = (n) => String(n).replace(/./g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));

function format(value) {
  if (value === Infinity) return "infinite";
  if (value === 0) return "0";
  const exponent = Number(value.toExponential(2).split("e")[1]);
  if (exponent >= -3 && exponent < 5) return String(Number(value.toPrecision(3))).replace("-", "−");
  const mantissa = Number(value.toExponential(2).split("e")[0]);
  return `${mantissa} × 10${superscript(exponent)}`.replace(/^-/, "−");
}

function tickText(value) {
  const exponent = Math.log10(value);
  return Number.isInteger(exponent) && exponent >= 4 ? `10${superscript(exponent)}` : format(value).replace(/^1 × /, "");
}

function ticks(low, high, most, log) {
  if (!log) {
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const first = Math.ceil(low / step - 1e-9);
    const count = Math.floor(high / step + 1e-9) - first + 1;
    return Array.from({ length: count }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const multiples = to - from > 2 ? [1] : [1, 2, 5];
  const every = Math.ceil(((to - from) * multiples.length) / most);
  const all = [];
  for (let e = from; e <= to; e += multiples.length > 1 ? 1 : every) {
    for (const m of multiples) all.push(m * 10 ** e);
  }
  const inside = all.filter((v) => v >= low * 0.999 && v <= high * 1.001);
  return multiples.length > 1 && inside.length > most ? inside.filter((v) => /^[1e.0-]+$/.test(String(v))) : inside;
}

// A map from values to pixels, with its range; values may be infinite or, on a logarithmic axis, not positive.
function scale(values, [start, end], log) {
  const usable = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  let [low, high] = usable.length ? [least(usable), greatest(usable)] : [log ? 0.1 : 0, 1];
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  const bend = log ? Math.log10 : (v) => v;
  const position = (v) => {
    if (log && v <= 0) v = low / 10; // off the axis; the clip path cuts it
    return start + ((bend(v) - bend(low)) / (bend(high) - bend(low))) * (end - start);
  };
  return Object.assign(position, { low, high, log });
}

function padded(values, log, zero, decades = DECADES) {
  const usable = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  if (!usable.length) return values;
  let [low, high] = [least(usable), greatest(usable)];
  if (log) {
    low = Math.max(low, high / 10 ** decades);
    return [low / 1.3, high * 1.3];
  }
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [zero && low >= 0 ? 0 : low - room, high + room];
}

// ---- where the sliders point ---------------------------------------------------------------------------------------

// Frames lie in row-major order of the sliders that choose one; a slider along x (chart.mark) comes last and does not.
function frameIndex(chart, position) {
  const choosing = chart.mark ? chart.sliders.slice(0, -1) : chart.sliders;
  return choosing.reduce((index, slider, i) => index * slider.text.length + position[i], 0);
}

const marked = (chart, position) => (chart.mark ? position[position.length - 1] : null);

// ---- drawing -------------------------------------------------------------------------------------------------------

function glyph(kind, x, y, hollow, size = 1) {
  const r = 4.2;
  const shapes = [
    `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
    `M${x - 3.6} ${y - 3.6}h7.2v7.2h-7.2Z`,
    `M${x} ${y - 4.6}L${x + 4.4} ${y + 3.4}H${x - 4.4}Z`,
    `M${x} ${y - 5}L${x + 5} ${y}L${x} ${y + 5}L${x - 5} ${y}Z`,
    `M${x} ${y + 4.6}L${x + 4.4} ${y - 3.4}H${x - 4.4}Z`,
  ];
  const node = make("path", { d: shapes[kind % 5], class: `fi-glyph fi-s${(kind % 5) + 1}${hollow ? " fi-hollow" : ""}` });
  if (size !== 1) node.setAttribute("transform", `translate(${x * (1 - size)} ${y * (1 - size)}) scale(${size})`);
  return node;
}

const shadeReasons = (chart) => [...new Set((chart.shades ?? []).map((shade) => shade[2]))];
const dashes = (i) => DASHES[i % 5].split(" ").map((d) => d && d * LINE).join(" ");

// Fills that differ by texture too: plain, stripes, dots, crossed stripes, wide stripes.
function textures(uid) {
  const marks = ["", "M-1 1l2 -2M0 8l8 -8M7 9l2 -2", "M3 4h2", "M0 8l8 -8M0 0l8 8", "M0 4h8"];
  return marks.map((d, i) =>
    make(
      "pattern",
      { id: `${uid}-p${i}`, width: 8, height: 8, patternUnits: "userSpaceOnUse" },
      make("rect", { width: 8, height: 8, class: `fi-fill fi-s${i + 1}` }),
      make("path", { d, class: "fi-texture" }),
    ),
  );
}

function frameOf(width) {
  const height = Math.round(Math.min(340, Math.max(220, width * 0.55)));
  return { left: 58, right: width - 20, top: 12, bottom: height - 46 };
}

function axes(svg, box, x, y, chart, xTicks) {
  const yTicks = ticks(y.low, y.high, 7, y.log);
  for (const value of yTicks) {
    const at = y(value);
    svg.append(make("line", { x1: box.left, x2: box.right, y1: at, y2: at, class: "fi-grid" }));
    svg.append(make("text", { x: box.left - 8, y: at + 4, "text-anchor": "end" }, tickText(value)));
  }
  for (const [at, text] of xTicks) {
    svg.append(make("line", { x1: at, x2: at, y1: box.bottom, y2: box.bottom + 5, class: "fi-axis" }));
    svg.append(make("text", { x: at, y: box.bottom + 19, "text-anchor": "middle" }, text));
  }
  svg.append(make("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, class: "fi-axis" }));
  svg.append(make("text", { x: (box.left + box.right) / 2, y: box.bottom + 38, "text-anchor": "middle" }, chart.x.label));
  const middle = (box.top + box.bottom) / 2;
  svg.append(
    make("text", { x: 13, y: middle, transform: `rotate(-90 13 ${middle})`, "text-anchor": "middle" }, chart.y.label),
  );
}

function drawGap(layer, [value, low, high], y, from, to) {
  const [top, bottom] = [y(high), y(low)];
  layer.append(make("rect", { x: from, width: to - from, y: top, height: Math.max(bottom - top, 0), class: "fi-band" }));
  layer.append(make("line", { x1: from, x2: to, y1: y(value), y2: y(value), class: "fi-gap" }));
}

// The layer that everything inside the axes is drawn in, cut at their edges, with the patterns that hatch it.
function innerLayer(svg, box, uid) {
  const inner = make("g", { "clip-path": `url(#${uid}-clip)` });
  const size = { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top };
  const patterns = HATCHES.map((d, i) =>
    make("pattern", { id: `${uid}-hatch${i}`, width: 7, height: 7, patternUnits: "userSpaceOnUse" },
      make("path", { d, class: "fi-hatch" })));
  svg.append(make("defs", {}, make("clipPath", { id: `${uid}-clip` }, make("rect", size)), ...patterns), inner);
  return inner;
}

// Which points of a line to draw: all, or of more than a screen can show the ends, and the least and the greatest of each
// of so many stretches, so that no peak is lost; of a stretch with a gap, the gap too.
function shown(ys, stretches) {
  if (ys.length <= 4 * stretches) return ys.map((_, j) => j);
  const kept = new Set([0, ys.length - 1]);
  const size = ys.length / stretches;
  for (let s = 0; s < stretches; s++) {
    let [low, high, gap] = [-1, -1, -1];
    for (let j = Math.floor(s * size); j < Math.floor((s + 1) * size); j++) {
      if (!Number.isFinite(ys[j])) gap = j;
      else {
        if (low < 0 || ys[j] < ys[low]) low = j;
        if (high < 0 || ys[j] > ys[high]) high = j;
      }
    }
    for (const j of [low, high, gap]) if (j >= 0) kept.add(j);
  }
  return [...kept].sort((a, b) => a - b);
}

function drawLines(svg, chart, position, log, width, uid) {
  const box = frameOf(width);
  const xs = chart.x.values;
  const values = [...chart.frames.flat(2), ...(chart.gap ?? [])].map(number);
  const x = scale(xs, [box.left + 8, box.right - 8], chart.x.log);
  const y = scale(padded(values, log, chart.y.zero, chart.y.decades), [box.bottom, box.top], log);
  const every = Math.ceil(xs.length / 9);
  axes(svg, box, x, y, chart, ticks(x.low, x.high, width / 70, x.log).map((v) => [x(v), tickText(v)]));
  const inner = innerLayer(svg, box, uid);
  const reasons = shadeReasons(chart);
  for (const [from, to, reason] of chart.shades ?? []) {
    const [left, right] = [Math.max(x(from), box.left), Math.min(x(to), box.right)];
    inner.append(make("rect", {
      x: left, width: right - left, y: box.top, height: box.bottom - box.top,
      fill: `url(#${uid}-hatch${reasons.indexOf(reason) % 2})`,
    }));
  }
  if (chart.gap) drawGap(inner, chart.gap.map(number), y, box.left, box.right);
  Object.entries(chart.marks ?? {}).forEach(([name, places], i) => {
    const place = x(places[frameIndex(chart, position)]);
    inner.append(make("line", { x1: place, x2: place, y1: box.top, y2: box.bottom, class: "fi-cap" }));
    const anchor = place > (box.left + box.right) / 2 ? "end" : "start";
    const words = { x: place + (anchor === "end" ? -4 : 4), y: box.top + 12 + 14 * i, "text-anchor": anchor };
    inner.append(make("text", words, name));
  });
  const at = marked(chart, position);
  if (at !== null) {
    inner.append(make("line", { x1: x(xs[at]), x2: x(xs[at]), y1: box.top, y2: box.bottom, class: "fi-cursor" }));
  }
  chart.frames[frameIndex(chart, position)].forEach((raw, i) => {
    const ys = raw.map(number);
    const points = shown(ys, Math.ceil(width)).map((j) =>
      Number.isFinite(ys[j]) ? `${x(xs[j]).toFixed(1)} ${y(ys[j]).toFixed(1)}` : null);
    // A value that is not finite breaks the line: each run of finite ones starts anew with M.
    const d = points.map((p, j) => p && `${points[j - 1] ? "L" : "M"}${p}`).filter(Boolean).join("");
    inner.append(make("path", { d, class: `fi-line fi-s${(i % 5) + 1}`, "stroke-dasharray": dashes(i), "data-series": i }));
    ys.forEach((v, j) => {
      if (Number.isFinite(v) && (j % every === 0 || j === at)) {
        const node = glyph(i, x(xs[j]), y(v), (chart.hollow ?? []).includes(j));
        if (j === at) node.classList.add("fi-here");
        inner.append(node);
      }
    });
  });
  return { nearest: (px) => xs.reduce((best, v, j) => (Math.abs(x(v) - px) < Math.abs(x(xs[best]) - px) ? j : best), 0) };
}

// Linear: the terms of one bound stacked. Logarithmic: side by side, since lengths on a logarithmic axis do not add.
function drawBars(svg, chart, position, log, width, uid) {
  const box = frameOf(width);
  const columns = chart.sliders[0].text;
  const frames = chart.frames.map((frame) => frame && frame.map(number));
  const heights = frames.flatMap((f) => (f ? (log ? f : [f.reduce((a, b) => a + b, 0)]) : []));
  const gaps = chart.gaps.flatMap((gap) => gap ?? []).map(number);
  const caps = (chart.caps ?? []).map(([, value]) => value);
  const y = scale(padded([...heights, ...gaps, ...caps, ...(log ? [] : [0])], log, true), [box.bottom, box.top], log);
  const slot = (box.right - box.left) / columns.length;
  const thin = Math.ceil(columns.length / (width / 60));
  const labels = columns.map((text, i) => [box.left + slot * (i + 0.5), text]).filter((_, i) => i % thin === 0);
  axes(svg, box, null, y, chart, labels);
  svg.append(make("defs", {}, ...textures(uid)));
  columns.forEach((_, column) => {
    const index = frameIndex(chart, [column, ...position.slice(1)]);
    const here = column === position[0];
    const group = make("g", { class: here ? "fi-bar fi-here" : "fi-bar", "data-column": column });
    const [left, room] = [box.left + slot * (column + 0.14), slot * 0.72];
    if (here) {
      group.append(make("rect", {
        x: box.left + slot * column, width: slot, y: box.top, height: box.bottom - box.top, class: "fi-chosen",
      }));
    }
    let base = 0;
    (frames[index] ?? []).forEach((value, i, all) => {
      if (!Number.isFinite(value)) value = y.high; // runs off the top; the numbers below say "infinite"
      const [from, to] = log ? [box.bottom, y(value)] : [y(base), y(Math.min(base + value, y.high))];
      const wide = log ? room / all.length : room;
      group.append(make("rect", {
        x: left + (log ? wide * i : 0), width: wide, y: Math.min(to, from), height: Math.max(from - to, 0),
        ...(chart.notes?.[index] ? { class: `fi-term fi-warned fi-s${(i % 5) + 1}` } : { fill: `url(#${uid}-p${i % 5})`, class: "fi-term" }), "data-term": i,
      }));
      base += value;
    });
    if (chart.gaps[index]) drawGap(group, chart.gaps[index].map(number), y, box.left + slot * column, box.left + slot * (column + 1));
    svg.append(group);
  });
  for (const [words, value] of chart.caps ?? []) {
    svg.append(make("line", { x1: box.left, x2: box.right, y1: y(value), y2: y(value), class: "fi-cap" }));
    svg.append(make("text", { x: box.right - 3, y: y(value) - 4, "text-anchor": "end" }, words));
  }
  return { nearest: (px) => Math.max(0, Math.min(columns.length - 1, Math.floor((px - box.left) / slot))) };
}

// ---- words ---------------------------------------------------------------------------------------------------------

const where = (chart, position) => chart.sliders.map((slider, i) => `${slider.label} = ${slider.text[position[i]]}`).join(", ");
const interval = ([value, low, high]) =>
  high > low ? `${format(value)} (${format(low)} to ${format(high)})` : format(value);

function lineWords(chart, position) {
  const at = marked(chart, position);
  const parts = chart.frames[frameIndex(chart, position)].map((raw, i) => {
    const ys = raw.map(number);
    if (at !== null) return `${chart.series[i]} ${format(ys[at])}`;
    const place = ys.indexOf(least(ys));
    const inside = place > 0 && place < ys.length - 1; // a least value at an end is the end of the picture, no finding
    return inside && `${chart.series[i]} is least at ${format(chart.x.values[place])}, with ${format(ys[place])}`;
  });
  if (chart.gap) parts.push(`${chart.gapLabel} ${interval(chart.gap.map(number))}`);
  const index = frameIndex(chart, position);
  Object.entries(chart.marks ?? {}).forEach(([name, places]) => parts.push(`${name} at ${format(places[index])}`));
  Object.entries(chart.readings ?? {}).forEach(([name, values]) => parts.push(`${name} ${format(number(values[index]))}`));
  const note = at === null ? "" : (chart.notes?.[at] ?? "");
  const sentence = [where(chart, position), parts.filter(Boolean).join("; ")].filter(Boolean).join(": ");
  return [sentence && `${sentence}.`, note].filter(Boolean).join(" ");
}

function barWords(chart, position) {
  const index = frameIndex(chart, position);
  if (!chart.frames[index]) return `${where(chart, position)}: no run at these settings.`;
  const frame = chart.frames[index].map(number);
  const parts = frame.map((value, i) => `${chart.series[i]} ${format(value)}`);
  const gap = chart.gaps[index] ? `; ${chart.gapLabel} ${interval(chart.gaps[index].map(number))}` : "";
  return `${where(chart, position)}: bound ${format(frame.reduce((a, b) => a + b, 0))} = ${parts.join(" + ")}${gap}.${chart.notes?.[index] ? ` ${chart.notes[index]}` : ""}`;
}

function lineTable(chart, position) {
  const frame = chart.frames[frameIndex(chart, position)];
  const every = Math.ceil(chart.x.values.length / 24);
  const chosen = chart.x.values.flatMap((v, j) => (j % every === 0 ? [[v, j]] : []));
  const rows = chosen.map(([v, j]) => [format(v), ...frame.map((ys) => format(number(ys[j])))]);
  return { head: [chart.x.label, ...chart.series], rows };
}

function barTable(chart, position) {
  const rows = chart.sliders[0].text.map((text, column) => {
    const index = frameIndex(chart, [column, ...position.slice(1)]);
    const values = chart.frames[index];
    const gap = chart.gaps[index] ? interval(chart.gaps[index].map(number)) : "none";
    return values ? [text, ...values.map((v) => format(number(v))), gap] : [text, ...chart.series.map(() => "no run"), gap];
  });
  return { head: [chart.x.label, ...chart.series, chart.gapLabel], rows };
}

function fillTable(table, { head, rows }) {
  const row = ([first, ...rest]) =>
    make("tr", {}, make("th", { scope: "row" }, first), ...rest.map((text) => make("td", {}, text)));
  table.replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map(row)),
  );
}

const lineKey = (i) => make("line", {
  x1: 1, x2: 33, y1: 7, y2: 7, class: `fi-line fi-s${(i % 5) + 1}`, "stroke-dasharray": dashes(i),
});

function legend(chart, uid) {
  const entry = (mark, text) =>
    make("li", {}, make("svg", { width: 34, height: 14, "aria-hidden": "true", focusable: "false" }, ...mark), ` ${text}`);
  const items = chart.series.map((name, i) => entry(KINDS[chart.kind].key(i, uid, chart), name));
  if (chart.contours?.length) {
    const line = make("line", { x1: 1, x2: 33, y1: 7, y2: 7, class: "fi-contour" });
    items.push(entry([line], `contours of the ${chart.contourLabel}`));
  }
  if (chart.gap || chart.gaps?.some(Boolean)) {
    const mark = [make("rect", { x: 1, y: 2, width: 32, height: 10, class: "fi-band" }), make("line", { x1: 1, x2: 33, y1: 7, y2: 7, class: "fi-gap" })];
    items.push(entry(mark, chart.gapLabel));
  }
  shadeReasons(chart).forEach((words, i) => {
    const key = make("rect", { x: 4, y: 1, width: 26, height: 12, fill: `url(#${uid}-hatch${i % 2})`, class: "fi-key" });
    items.push(entry([key], words));
  });
  if (chart.kind === "bars" && chart.notes?.some(Boolean)) {
    items.push(entry([make("rect", { x: 4, y: 1, width: 26, height: 12, class: "fi-warned fi-s1" })], "hollow: a warning speaks against a conclusion"));
  }
  if (chart.hollow?.length) items.push(entry([glyph(0, 17, 7, true)], "hollow: the solver did not converge"));
  return make("ul", { class: "fi-legend" }, ...items);
}

// ---- one widget ----------------------------------------------------------------------------------------------------

function slider(model, chart, i, uid) {
  const { label, text } = chart.sliders[i];
  const id = `${uid}-slider${i}`;
  const input = make("input", { id, type: "range", min: 0, max: text.length - 1, step: 1 });
  input.dataset.lmSuppressShortcuts = "true"; // JupyterLab's command mode would take the arrow keys
  const output = make("output", { for: id, "aria-live": "off" });
  input.addEventListener("input", () => {
    const position = [...model.get("position")];
    position[i] = Number(input.value);
    model.set("position", position);
    model.save_changes();
  });
  const update = (index) => {
    input.value = index;
    input.setAttribute("aria-valuetext", text[index]);
    output.textContent = text[index];
  };
  return { update, node: make("div", { class: "fi-control" }, make("label", { for: id }, label), input, output) };
}

// A button that moves the last slider from stop to stop, to its end. Where motion is to be reduced, one stop a second.
function player(model, chart, sounded) {
  const last = chart.sliders.length - 1;
  const end = chart.sliders[last].text.length - 1;
  const button = make("button", { type: "button", class: "fi-play" });
  let timer = null;
  function show() {
    button.textContent = timer === null ? `▶ Play ${chart.sliders[last].label}` : `⏸ Stop ${chart.sliders[last].label}`;
    sounded(timer === null);
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    show();
  }
  function move(index) {
    const position = [...model.get("position")];
    position[last] = index;
    model.set("position", position);
    model.save_changes();
  }
  function step() {
    const at = model.get("position")[last];
    if (at < end) move(at + 1);
    if (at + 1 >= end) stop();
  }
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (model.get("position")[last] === end) move(0);
    const slow = matchMedia("(prefers-reduced-motion: reduce)").matches;
    timer = setInterval(step, slow ? 1000 : Math.max(80, Math.min(700, 6000 / end)));
    show();
  });
  button.dataset.lmSuppressShortcuts = "true";
  show();
  return { node: button, stop };
}

function assemble(model, root) {
  const chart = model.get("chart");
  const uid = `fi-${Math.random().toString(36).slice(2, 10)}`; // ids are shared with the other widgets of a page
  const kind = KINDS[chart.kind];
  const sliders = chart.sliders.map((_, i) => slider(model, chart, i, uid));
  const toggle = make("input", { id: `${uid}-log`, type: "checkbox" });
  toggle.dataset.lmSuppressShortcuts = "true";
  toggle.addEventListener("change", () => {
    model.set("log", toggle.checked);
    model.save_changes();
  });
  const svg = make("svg", { role: "img", "aria-labelledby": `${uid}-title ${uid}-desc` });
  const status = make("output", { class: "fi-status", for: chart.sliders.map((_, i) => `${uid}-slider${i}`).join(" ") });
  const table = make("table");
  const scroll = make("div", { class: "fi-scroll", role: "region", tabindex: 0, "aria-label": `${chart.title}: numbers` }, table);
  const summary = make("summary", {}, "The numbers as a table");
  for (const node of [scroll, summary]) node.dataset.lmSuppressShortcuts = "true"; // else a key would go to the notebook
  // While it plays, the sentence changes too fast to be read aloud.
  const play = chart.play && player(model, chart, (aloud) => status.setAttribute("aria-live", aloud ? "polite" : "off"));
  let [nearest, drag] = [null, null];

  function update() {
    const position = model.get("position");
    const log = model.get("log");
    const width = Math.max(260, Math.min(root.clientWidth || 640, 820));
    sliders.forEach((control, i) => control.update(position[i]));
    toggle.checked = log;
    svg.replaceChildren(
      make("title", { id: `${uid}-title` }, chart.title),
      make("desc", { id: `${uid}-desc` }, chart.description),
    );
    const height = kind.box(width, chart).bottom + 46;
    for (const [name, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) svg.setAttribute(name, value);
    ({ nearest, drag } = kind.draw(svg, chart, position, log, width, uid));
    svg.classList.toggle("fi-drag", Boolean(drag));
    status.textContent = kind.words(chart, position);
    fillTable(table, kind.table(chart, position));
  }

  function pull(event) {
    const { left, top } = svg.getBoundingClientRect();
    const [i, index] = drag(event.clientX - left, event.clientY - top);
    const position = [...model.get("position")];
    position[i] = index;
    model.set("position", position);
    model.save_changes();
  }
  svg.addEventListener("pointerdown", (event) => {
    if (!drag) return;
    svg.setPointerCapture(event.pointerId);
    pull(event);
  });
  svg.addEventListener("pointermove", (event) => {
    if (drag && svg.hasPointerCapture(event.pointerId)) pull(event);
  });
  svg.addEventListener("click", (event) => {
    if (drag) return;
    const along = chart.kind === "bars" ? 0 : chart.mark ? chart.sliders.length - 1 : null;
    if (along === null) return;
    if (play) play.stop();
    const position = [...model.get("position")];
    const { left, top } = svg.getBoundingClientRect();
    position[along] = nearest(event.clientX - left, event.clientY - top);
    model.set("position", position);
    model.save_changes();
  });
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", chart.title);
  const check = make("div", { class: "fi-check" }, toggle, make("label", { for: toggle.id }, "logarithmic vertical axis"));
  const more = [kind.log && check, play && play.node].filter(Boolean);
  if (play) root.addEventListener("input", play.stop); // a slider moved by hand
  root.replaceChildren(
    make("p", { class: "fi-title" }, chart.title),
    make("div", { class: "fi-controls" }, ...sliders.map((control) => control.node), ...more),
    svg,
    legend(chart, uid),
    status,
    make("details", {}, summary, make("p", {}, chart.description), scroll),
  );
  update();
  return { update, stop: () => play && play.stop() };
}

// What is special to a kind: its frame, its drawing, its sentence, its table, its key in the legend, and whether the
// vertical axis can be switched to a logarithm.
const KINDS = {
  lines: { box: frameOf, draw: drawLines, words: lineWords, table: lineTable, key: (i) => [lineKey(i), glyph(i, 17, 7)], log: true },
  bars: {
    box: frameOf, draw: drawBars, words: barWords, table: barTable, log: true,
    key: (i, uid) => [make("rect", { x: 4, y: 1, width: 26, height: 12, fill: `url(#${uid}-p${i % 5})` })],
  },
};

function render({ model, el }) {
  const root = make("div", { class: "fi" });
  el.append(root);
  let drawn = assemble(model, root);
  const rebuild = () => {
    drawn.stop();
    drawn = assemble(model, root);
  };
  const redraw = () => drawn.update();
  model.on("change:chart", rebuild);
  model.on("change:position", redraw);
  model.on("change:log", redraw);
  let width = root.clientWidth;
  const observer = new ResizeObserver(() => {
    if (root.clientWidth !== width) {
      width = root.clientWidth;
      redraw();
    }
  });
  observer.observe(root);
  return () => {
    drawn.stop();
    observer.disconnect();
    model.off("change:chart", rebuild);
    model.off("change:position", redraw);
    model.off("change:log", redraw);
  };
}

export default { render };
