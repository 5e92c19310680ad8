// ---- drawing: small parts, bars, the picture of the runs, the history ------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "title", "desc", "defs", "pattern", "image"]);

function make(tag, attributes = {}, ...children) {
  const node = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== false) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
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

const AXIS = [1e-3, 1e3];
const TERMS = ["trajectory", "flatness", "penalty"];

// The bars: what each bound says, split into its terms; on a logarithmic axis terms stand side by side within their bound.
function columnsOf(results, lam, stretch) {
  const row = results.omniscient?.[lam];
  const certified = results.self_certified?.[lam];
  const shifted = (bound) => ({ ...bound, trajectory: bound.A / (bound.sigma * stretch), flatness: bound.B * (bound.sigma * stretch) ** 2,
    value: bound.A / (bound.sigma * stretch) + bound.B * (bound.sigma * stretch) ** 2, noise_to_weight: bound.noise_to_weight * stretch });
  const columns = [
    { name: "closed form", group: 0, bound: results.closed_form && shifted(results.closed_form), other: results.closed_form_difference?.value },
    { name: "end point", group: 0, bound: results.terminal && shifted(results.terminal), other: results.terminal_difference?.value },
    { name: "omniscient", group: 0, bound: row },
    { name: "self-certified", group: 0, bound: certified },
    { name: "counted", group: 1, bound: results.counted },
    { name: "Langevin", group: 1, bound: results.langevin, none: "no noise" },
  ];
  return columns.map((column) => ({ ...column, reasons: column.bound && "noise_to_weight" in column.bound ? reasonsOf(column.bound) : [] }));
}

function drawBars(svg, uid, results, columns, width) {
  const height = 330;
  const box = { left: 46, right: width - 6, top: 14, bottom: height - 64 };
  const y = logScale(AXIS, [box.bottom, box.top]);
  Object.entries({ width, height, viewBox: `0 0 ${width} ${height}`, class: width < 420 ? "lab-narrow" : "" }).forEach(([name, value]) => svg.setAttribute(name, value));
  svg.replaceChildren(
    make("title", { id: `${uid}-bars-title` }, "Bounds and gap"),
    make("desc", { id: `${uid}-bars-desc` }, "Bars on a logarithmic axis: every bound and its terms, the measured gap as a dashed line. The sentence and the table below say the same in numbers."),
    make("defs", {}, make("pattern", { id: `${uid}-hatch`, width: 6, height: 6, patternUnits: "userSpaceOnUse" },
      make("path", { d: "M-1 1l2 -2M0 6l6 -6M5 7l2 -2", class: "lab-hatch" }))),
  );
  for (let e = -3; e <= 3; e++) {
    svg.append(make("line", { x1: box.left, x2: box.right, y1: y(10 ** e), y2: y(10 ** e), class: "lab-grid" }));
    svg.append(make("text", { x: box.left - 6, y: y(10 ** e) + 4, "text-anchor": "end" }, e < -1 ? `10${superscript(e)}` : String(10 ** e)));
  }
  const space = columns.some((column) => column.group) ? 14 : 0;
  const slot = (box.right - box.left - space) / columns.length;
  const left = (i) => box.left + 4 + slot * i + (columns[i].group ? space : 0);
  columns.forEach((column, i) => {
    const group = make("g", { class: `lab-bar${column.reasons.length ? " lab-warned" : ""}`, "data-bound": column.name });
    const middle = left(i) + slot / 2;
    if (column.bound) {
      const { value } = column.bound;
      const [from, wide] = [left(i) + slot * 0.08, slot * 0.84];
      group.append(make("rect", { x: from, width: wide, y: y(value), height: box.bottom - y(value), class: `lab-whole${column.group ? " lab-single" : ""}`,
        style: column.reasons.length ? `fill: url(#${uid}-hatch)` : false }));
      const terms = TERMS.filter((term) => column.bound[term] > 0);
      terms.forEach((term, t) => {
        const part = wide / Math.max(terms.length, 2);
        const at = from + (wide - part * terms.length) / 2 + part * t;
        group.append(make("rect", { x: at + part * 0.12, width: part * 0.76, y: y(column.bound[term]),
          height: box.bottom - y(column.bound[term]), class: `lab-term lab-${term}` }));
      });
      if (column.other > 0) {
        const at = y(column.other);
        group.append(make("path", { d: `M${from + wide - 4} ${at - 4}l4 4l-4 4l-4 -4Z`, class: "lab-other" }));
      }
      group.append(make("text", { x: middle, y: Math.max(y(value) - 4, 11), "text-anchor": "middle", class: "lab-value" }, format(value, 2)));
    } else {
      group.append(make("text", { x: middle, y: box.bottom - 6, "text-anchor": "middle", class: "lab-none" }, column.none ?? "…"));
    }
    const words = column.name.split(/(?<=-)| /);
    words.forEach((word, line) => group.append(make("text", { x: middle, y: box.bottom + 15 + 12 * line, "text-anchor": "middle" }, word)));
    svg.append(group);
  });
  const units = [
    { words: "cross-entropy, nats", gap: results.gap, caps: [[results.clip, "clip"], [Math.log(results.classes), "uniform guess"]] },
    { words: "share of errors", gap: results.error_gap, caps: [[1 - 1 / results.classes, "guess"]] },
  ];
  for (const [group, { words, gap, caps }] of units.entries()) {
    const members = columns.map((column, i) => (column.group === group ? i : null)).filter((i) => i !== null);
    if (!members.length) continue;
    const [from, to] = [left(members[0]) - 2, left(members.at(-1)) + slot - 2];
    for (const [value, text] of caps) {
      svg.append(make("line", { x1: from, x2: to, y1: y(value), y2: y(value), class: "lab-cap" }));
      svg.append(make("text", { x: to - 2, y: y(value) - 3, "text-anchor": "end", class: "lab-cap-text" }, text));
    }
    const [low, high] = [gap.value - 2 * gap.standard_error, gap.value + 2 * gap.standard_error];
    if (high > 0) svg.append(make("rect", { x: from, width: to - from, y: y(high), height: Math.max(y(Math.max(low, AXIS[0])) - y(high), 1), class: "lab-band" }));
    if (gap.value > 0) svg.append(make("line", { x1: from, x2: to, y1: y(gap.value), y2: y(gap.value), class: "lab-gap" }));
    svg.append(make("text", { x: (from + to) / 2, y: height - 8, "text-anchor": "middle", class: "lab-group" }, words));
  }
  svg.append(make("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, class: "lab-axis" }));
}

const RUN_DASHES = ["", "7 3", "2 3", "9 3 2 3"];

function drawBoundaries(svg, { boundaries, points }, size) {
  const at = (v) => ((v + VIEWED) / (2 * VIEWED)) * size;
  points.y.forEach((label, i) => {
    const [x, y] = [at(points.x[2 * i]), size - at(points.x[2 * i + 1])];
    const shapes = [`M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`, `M${x - 2.6} ${y - 2.6}h5.2v5.2h-5.2Z`, `M${x} ${y - 3.4}l3.2 5.6h-6.4Z`];
    svg.append(make("path", { d: shapes[label], class: `lab-point lab-class${label}` }));
  });
  boundaries.forEach((segments, r) => {
    let d = "";
    for (let i = 0; i < segments.length; i += 4) d += `M${at(segments[i]).toFixed(1)} ${(size - at(segments[i + 1])).toFixed(1)}L${at(segments[i + 2]).toFixed(1)} ${(size - at(segments[i + 3])).toFixed(1)}`;
    svg.append(make("path", { d, class: "lab-boundary", "data-run": r }));
  });
}
const VIEWED = 1.9; // as portrait.js

function drawMistakes(svg, { mistakes }, pixels, size) {
  const across = 6;
  const cell = size / across;
  const scale = (cell - 12) / 8;
  mistakes.shown.forEach(({ place, label, answers, count }, i) => {
    const [x, y] = [(i % across) * cell, Math.floor(i / across) * (cell * 1.45)];
    const group = make("g", { transform: `translate(${x + 3} ${y + 3})` });
    const image = pixels.subarray((1297 + place) * 65, (1297 + place) * 65 + 64);
    group.append(make("rect", { width: scale * 8, height: scale * 8, class: "lab-paper" }));
    image.forEach((grey, p) => {
      if (grey) group.append(make("rect", { x: (p % 8) * scale, y: Math.floor(p / 8) * scale, width: scale + 0.3, height: scale + 0.3, "fill-opacity": grey / 16, class: "lab-ink" }));
    });
    const others = [...new Set(answers.filter((answer) => answer !== label))];
    const wrong = others[0] + (others.length > 1 ? "…" : "");
    group.append(make("text", { x: 0, y: scale * 8 + 12 }, `${label} → ${wrong}`));
    group.append(make("text", { x: 0, y: scale * 8 + 24, class: "lab-small" }, `${count} of ${answers.length}`));
    svg.append(group);
  });
  if (!mistakes.shown.length) svg.append(make("text", { x: size / 2, y: size / 2, "text-anchor": "middle" }, "No test digit is wrong."));
}

// The paths of the weights and, around the end of each, the ghost: circles of one and two standard deviations.
function drawPlane(svg, { paths, share }, ghost, size) {
  const all = paths.flat();
  const [xs, ys] = [all.map((p) => p[0]), all.map((p) => p[1])];
  const [low, high] = [[Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)]];
  const room = Math.max(high[0] - low[0], high[1] - low[1]) * 1.5 || 1;
  const centre = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
  const px = ([x, y]) => [size / 2 + ((x - centre[0]) / room) * size, size / 2 - ((y - centre[1]) / room) * size];
  paths.forEach((path, r) => {
    const end = px(path[path.length - 1]);
    for (const times of [1, 2]) svg.append(make("circle", { cx: end[0], cy: end[1], r: Math.min((times * ghost * size) / room, 4 * size), class: "lab-ghost" }));
    svg.append(make("path", { d: `M${path.map((p) => px(p).map((v) => v.toFixed(1)).join(" ")).join("L")}`, class: `lab-path lab-run${r}`, "stroke-dasharray": RUN_DASHES[r] }));
    svg.append(make("circle", { cx: end[0], cy: end[1], r: 4, class: `lab-end lab-run${r}` }));
  });
  const start = px([0, 0]);
  svg.append(make("path", { d: `M${start[0] - 5} ${start[1]}h10M${start[0]} ${start[1] - 5}v10`, class: "lab-start" }));
  svg.append(make("text", { x: 6, y: size - 8, class: "lab-small" }, `${Math.round(100 * share)} % of the movement lies in this plane`));
}

function drawLosses(svg, losses, epochs, classes, size) {
  const y = logScale([1e-4, 10], [size - 26, 10]);
  const x = (e) => 38 + ((size - 46) * e) / Math.max(epochs, 1);
  for (let e = -4; e <= 1; e++) {
    svg.append(make("line", { x1: 38, x2: size - 8, y1: y(10 ** e), y2: y(10 ** e), class: "lab-grid" }));
    svg.append(make("text", { x: 34, y: y(10 ** e) + 4, "text-anchor": "end" }, e < -1 ? `10${superscript(e)}` : String(10 ** e)));
  }
  svg.append(make("line", { x1: 38, x2: size - 8, y1: y(Math.log(classes)), y2: y(Math.log(classes)), class: "lab-cap" }));
  svg.append(make("path", { d: losses.map((v, i) => `${i ? "L" : "M"}${x(i + 1).toFixed(1)} ${y(v).toFixed(1)}`).join(""), class: "lab-path lab-run0" }));
  svg.append(make("text", { x: size / 2, y: size - 6, "text-anchor": "middle" }, `training loss, nats, over ${epochs} epochs`));
}

// An axis that holds all values with room at its ends, and round ticks on it.
function spanned(values, from, to, log) {
  let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0.1, 1];
  if (log) {
    [low, high] = high / low < 4 ? [low / 2, high * 2] : [low / 1.25, high * 1.25];
    const position = (v) => from + (Math.log(v / low) / Math.log(high / low)) * (to - from);
    const all = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) for (const m of [1, 2, 5]) all.push(m * 10 ** e);
    const inside = all.filter((v) => v >= low && v <= high);
    return Object.assign(position, { ticks: inside.length > 7 ? inside.filter((v) => /^[1e.0-]+$/.test(String(v))) : inside });
  }
  const room = 0.06 * (high - low || Math.abs(high) || 1);
  [low, high] = [low - room, high + room];
  const position = (v) => from + ((v - low) / (high - low)) * (to - from);
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = [1, 2, 5, 10].map((m) => m * power).find((v) => v >= rough);
  const first = Math.ceil(low / gap);
  return Object.assign(position, { ticks: Array.from({ length: Math.floor(high / gap) - first + 1 }, (_, i) => Number(((first + i) * gap).toPrecision(9))) });
}

// Finished runs as dots, the newest filled; vertical bars are two standard errors where a number has them.
function drawHistory(svg, uid, history, across, up, width) {
  const height = 260;
  const box = { left: 58, right: width - 12, top: 12, bottom: height - 42 };
  Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` }).forEach(([name, value]) => svg.setAttribute(name, value));
  svg.replaceChildren(make("title", { id: `${uid}-history-title` }, `${up.label} against ${across.label} for ${history.length} runs`));
  const points = history.map((entry) => ({ x: across.of(entry), y: up.of(entry), error: up.error?.(entry) ?? 0 }))
    .filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y) && !(across.log && p.x <= 0));
  const x = spanned(points.map((p) => p.x), box.left, box.right, across.log);
  const y = spanned(points.flatMap((p) => [p.y - 2 * p.error, p.y + 2 * p.error]), box.bottom, box.top, false);
  for (const v of y.ticks) {
    svg.append(make("line", { x1: box.left, x2: box.right, y1: y(v), y2: y(v), class: "lab-grid" }));
    svg.append(make("text", { x: box.left - 6, y: y(v) + 4, "text-anchor": "end" }, format(v)));
  }
  for (const v of x.ticks) svg.append(make("text", { x: x(v), y: box.bottom + 16, "text-anchor": "middle" }, format(v)));
  svg.append(make("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, class: "lab-axis" }));
  svg.append(make("text", { x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, across.label));
  svg.append(make("text", { x: 12, y: (box.top + box.bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(box.top + box.bottom) / 2})` }, up.label));
  points.forEach((point, i) => {
    const last = i === points.length - 1;
    const [cx, cy] = [x(point.x), y(point.y)];
    if (point.error > 0) svg.append(make("line", { x1: cx, x2: cx, y1: y(point.y - 2 * point.error), y2: y(point.y + 2 * point.error), class: "lab-error" }));
    svg.append(make("circle", { cx, cy, r: last ? 5 : 4, class: `lab-dot${last ? " lab-last" : ""}` }));
  });
}
