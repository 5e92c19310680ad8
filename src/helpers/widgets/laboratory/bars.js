// ---- bars: what each bound says, and the measured gap -----------------------------------------------------------------------------

const AXIS = [1e-3, 1e3];
const TERMS = ["trajectory", "flatness", "penalty"];

// The bars: what each bound says, split into its terms; on a logarithmic axis terms stand side by side within their bound.
function columnsOf(results, lam, stretch) {
  const row = results.omniscient?.[lam];
  const certified = results.self_certified?.[lam];
  const shifted = (bound, squares) => {
    if (!bound || !(bound.sigma > 0 && Number.isFinite(bound.sigma))) return null; // no trace, so no noise is the best
    const [trajectory, flatness] = [bound.A / (bound.sigma * stretch), bound.B * (bound.sigma * stretch) ** 2];
    const terms = { trajectory, flatness };
    // runs that Python trained come with the error at the best noise alone
    const standard_error = stretch === 1 ? bound.standard_error : squares ? THIS_ENGINE.wang_mao.error_over_runs(terms, results.traces, squares) : undefined;
    return { ...bound, ...terms, standard_error, value: trajectory + flatness, noise_to_weight: bound.noise_to_weight * stretch };
  };
  const columns = [
    { name: "closed form", group: 0, bound: shifted(results.closed_form, results.squares), other: results.closed_form_difference?.value, none: "no trace" },
    { name: "end point", group: 0, bound: shifted(results.terminal, results.ends), other: results.terminal_difference?.value, none: "no trace" },
    { name: "omniscient", group: 0, bound: row, at: row && `λ = ${format(row.lam)}` },
    { name: "self-certified", group: 0, bound: certified, at: certified && `λ = ${format(certified.lam)}`, elsewhere: true },
    { name: "counted", group: 1, bound: results.counted },
    { name: "Langevin", group: 1, bound: results.langevin, none: "no noise" },
  ];
  return columns.map((column) => ({ ...column, reasons: column.bound && "noise_to_weight" in column.bound ? reasonsOf(column.bound) : [] }));
}

// Why the self-certified bar may lie below the gap line; nothing where it does not.
function belowTheGap(results, columns) {
  const certified = columns.find(({ elsewhere }) => elsewhere)?.bound;
  if (!certified || certified.value >= results.gap.value) return "";
  return "The self-certified bar lies below the gap line and contradicts nothing: it bounds the risk of the moved and noisy network. "
    + "For the network itself it holds only if neither the move nor the noise lowers the risk, and that takes held-out data to see.";
}

// How much of the omniscient bound is read off held-out losses; `path` is undefined while it is being computed.
function drawGauge(gauge, path, lam) {
  const row = path?.[lam];
  const share = row && row.value > 0 ? row.penalty / row.value : 0;
  const words = row ? `read off held-out losses: ${Math.round(100 * share)} %`
    : path ? "there is no omniscient bound here: every example is clipped" : "the omniscient bound is being computed";
  if (gauge.dataset.words === words) return;
  gauge.style.setProperty("--share", `${100 * share}%`);
  gauge.classList.toggle("lab-mostly", share >= 0.5);
  gauge.setAttribute("aria-label", words);
  gauge.dataset.words = words;
}

const KEYS_OF_BARS = {
  trajectory: "trajectory", flatness: "flatness", penalty: "penalty", other: "with the trace difference", error: "± 2 s.e. over networks", gap: "measured gap ± 2 s.e.",
  beyond: "beyond the axis", warned: "warned: conclude nothing", elsewhere: "of the moved and noisy network",
};
const barsLegend = () => make("ul", { class: "lab-legend" }, ...Object.entries(KEYS_OF_BARS)
  .map(([key, text]) => make("li", {}, make("i", { class: `lab-key lab-key-${key}` }), text)));

// The picture of the columns; the gap is a dashed line with a band of two standard errors.
function barsPicture(uid, results, columns, width) {
  const height = 330;
  const tight = width < 300; // names stand on two levels
  const box = { left: tight ? 34 : 46, right: width - 6, top: 14, bottom: height - (tight ? 78 : 64) };
  const y = logScale(AXIS, [box.bottom, box.top]);
  const space = columns.some((column) => column.group) ? 14 : 0;
  const slot = (box.right - box.left - space) / columns.length;
  const left = (i) => box.left + 4 + slot * i + (columns[i].group ? space : 0);
  const units = [
    { words: "cross-entropy, nats", gap: results.gap, caps: [[results.clip, "clip"], [Math.log(results.classes), "uniform guess"]] },
    { words: "share of errors", gap: results.error_gap, caps: [[1 - 1 / results.classes, "guess"]] },
  ];
  const marks = [
    mark("title", { id: `${uid}-bars-title` }, "Bounds and gap"),
    mark("desc", { id: `${uid}-bars-desc` }, "Bars on a logarithmic axis: every bound and its terms, the measured gap as a dashed line. The sentence and the table below say the same in numbers."),
    mark("defs", {}, mark("pattern", { id: `${uid}-hatch`, width: 6, height: 6, patternUnits: "userSpaceOnUse" },
      mark("path", { d: "M-1 1l2 -2M0 6l6 -6M5 7l2 -2", class: "lab-hatch" })),
    mark("pattern", { id: `${uid}-rows`, width: 6, height: 5, patternUnits: "userSpaceOnUse" }, mark("path", { d: "M0 2.5h6", class: "lab-hatch" }))),
    ...logTicks(-3, 3, y, box),
    ...columns.map((column, i) => barMark(uid, column, left(i), slot, y, { ...box, names: box.bottom + (tight && i % 2 ? 27 : 15) })),
  ];
  for (const [group, unit] of units.entries()) {
    const members = columns.map((column, i) => (column.group === group ? i : null)).filter((i) => i !== null);
    if (!members.length) continue;
    const to = left(members.at(-1)) + slot - 2;
    // the values that stand where the word beside a cap would
    const values = members.filter((i) => left(i) + slot > to - 76 && columns[i].bound).map((i) => labelAt(columns[i].bound, y));
    marks.push(...gapMarks(unit, left(members[0]) - 2, to, y, height, values));
  }
  marks.push(mark("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, class: "lab-axis" }));
  return { width, height, class: width < 420 ? "lab-narrow" : "", marks };
}

function logTicks(low, high, y, box) {
  return Array.from({ length: high - low + 1 }, (_, i) => low + i).flatMap((e) => [
    mark("line", { x1: box.left, x2: box.right, y1: y(10 ** e), y2: y(10 ** e), class: "lab-grid" }),
    mark("text", { x: box.left - 6, y: y(10 ** e) + 4, "text-anchor": "end" }, e < -1 ? `10${superscript(e)}` : String(10 ** e)),
  ]);
}

// Two standard errors above a value, and where its number is written: above them.
const reachOf = ({ value, standard_error }) => value + 2 * (standard_error > 0 ? standard_error : 0);
const labelAt = (bound, y) => Math.max(y(reachOf(bound)) - 4, 11);

// One bound: its value as a frame, its terms side by side within, its standard error over runs as a bar.
function barMark(uid, column, left, slot, y, box) {
  const middle = left + slot / 2;
  const hatch = column.reasons.length ? "hatch" : column.elsewhere ? "rows" : null;
  const parts = [];
  if (column.bound) {
    const { value } = column.bound;
    const [from, wide] = [left + slot * 0.08, slot * 0.84];
    parts.push(mark("rect", { x: from, width: wide, y: y(value), height: box.bottom - y(value), class: `lab-whole${column.group ? " lab-single" : ""}`,
      style: hatch ? `fill: url(#${uid}-${hatch})` : false }));
    const terms = TERMS.filter((term) => column.bound[term] > 0);
    terms.forEach((term, t) => {
      const part = wide / Math.max(terms.length, 2);
      const at = from + (wide - part * terms.length) / 2 + part * t;
      parts.push(mark("rect", { x: at + part * 0.12, width: part * 0.76, y: y(column.bound[term]),
        height: box.bottom - y(column.bound[term]), class: `lab-term lab-${term}` }));
    });
    if (column.other > 0) parts.push(mark("path", { d: `M${from + wide - 4} ${y(column.other) - 4}l4 4l-4 4l-4 -4Z`, class: "lab-other" }));
    const reach = reachOf(column.bound);
    if (reach > value) parts.push(mark("path", { d: `M${middle} ${y(2 * value - reach)}V${y(reach)}m-4 0h8`, class: "lab-reach" }));
    parts.push(mark("text", { x: middle, y: labelAt(column.bound, y), "text-anchor": "middle", class: "lab-value" }, `${format(value, 2)}${value > AXIS[1] ? " ↑" : value < AXIS[0] ? " ↓" : ""}`));
  } else {
    parts.push(mark("text", { x: middle, y: box.bottom - 6, "text-anchor": "middle", class: "lab-none" }, column.none ?? "…"));
  }
  const words = [...column.name.split(/(?<=-)| /), ...(column.at ? [column.at] : [])];
  parts.push(...words.map((word, line) => mark("text", { x: middle, y: box.names + 12 * line, "text-anchor": "middle" }, word)));
  return mark("g", { class: `lab-bar${hatch ? " lab-hollow" : ""}${column.reasons.length ? " lab-warned" : ""}`, "data-bound": column.name }, ...parts);
}

// The gap of one unit over its bars, and the values that say what is large there.
function gapMarks({ words, gap, caps }, from, to, y, height, values) {
  const marks = caps.flatMap(([value, text]) => {
    const free = (at) => values.every((other) => Math.abs(other - at) > 12);
    const at = [y(value) - 3, y(value) + 11, y(value) - 16].find(free) ?? y(value) - 3;
    return [
      mark("line", { x1: from, x2: to, y1: y(value), y2: y(value), class: "lab-cap" }),
      mark("text", { x: to - 2, y: at, "text-anchor": "end", class: "lab-cap-text" }, text),
    ];
  });
  const [low, high] = [gap.value - 2 * gap.standard_error, gap.value + 2 * gap.standard_error];
  if (high > 0) marks.push(mark("rect", { x: from, width: to - from, y: y(high), height: Math.max(y(Math.max(low, AXIS[0])) - y(high), 1), class: "lab-band" }));
  if (gap.value > AXIS[0]) marks.push(mark("line", { x1: from, x2: to, y1: y(gap.value), y2: y(gap.value), class: "lab-gap" }));
  else if (Number.isFinite(gap.value)) marks.push(mark("text", { x: (from + to) / 2, y: y(AXIS[0]) - 20, "text-anchor": "middle", class: "lab-cap-text" }, `gap ${format(gap.value, 2)} ↓`));
  return [...marks, mark("text", { x: (from + to) / 2, y: height - 8, "text-anchor": "middle", class: "lab-group" }, words)];
}

// The axes and what will stand there; no number yet.
function emptyBars(uid, classes, width, count) {
  const unknown = { value: NaN, standard_error: 0 };
  const columns = columnsOf({}, 3, 1).slice(0, count).map((column) => ({ ...column, none: "?" }));
  return barsPicture(uid, { gap: unknown, error_gap: unknown, clip: 12 * Math.log(classes), classes }, columns, width);
}
