// ---- history: finished runs as dots, told apart by their settings ------------------------------------------------------------------

const setting = (key) => ({ label: CONTROLS[key].label, log: !["momentum", "label_noise"].includes(key), of: ({ settings }) => settings[key] });
const ACROSS = {
  batch_size: setting("batch_size"), lr: setting("lr"), epochs: setting("epochs"), momentum: setting("momentum"),
  width: setting("width"), n: setting("n"), label_noise: setting("label_noise"), temperature: setting("temperature"),
  trace: { label: "trace of the training Hessian", log: true, of: ({ results }) => results.trace },
};
const UP = {
  gap: { label: "gap, nats", of: ({ results }) => results.gap.value, error: ({ results }) => results.gap.standard_error },
  error_gap: { label: "gap of the errors", of: ({ results }) => results.error_gap.value, error: ({ results }) => results.error_gap.standard_error },
  trace: { label: "trace of the training Hessian", of: ({ results }) => results.trace },
  test_error: { label: "test error", of: ({ results }) => results.test_error },
  closed_form: { label: "closed form, nats", of: ({ results }) => results.closed_form.value },
  terminal: { label: "end point, nats", of: ({ results }) => results.terminal.value },
  omniscient: { label: "omniscient, nats", of: ({ results }, view) => results.omniscient[view.lam]?.value ?? null },
};

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
  const rough = (high - low) / 5.5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = [1, 2, 5, 10].map((m) => m * power).find((v) => v >= rough);
  const first = Math.ceil(low / gap);
  return Object.assign(position, { ticks: Array.from({ length: Math.floor(high / gap) - first + 1 }, (_, i) => Number(((first + i) * gap).toPrecision(9))) });
}

// The shapes of groups, around a centre; the colours are those of lab-group0, lab-group1, ...
const SHAPES = ["M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", "M-3.6 -3.6h7.2v7.2h-7.2Z", "M0 -4.8l4.6 8h-9.2Z", "M0 -5l5 5l-5 5l-5 -5Z", "M0 4.8l4.6 -8h-9.2Z",
  "M-1.7 -4.7h3.4v3h3v3.4h-3v3h-3.4v-3h-3v-3.4h3Z"];

// What a setting is called beside others: its world, and what is not as the laboratory begins (epochs only where they decide).
function nameOf(settings, varied) {
  const differs = Object.keys(CONTROLS).filter((key) => key !== varied && key in settings && settings[key] !== DEFAULTS_OF_ENGINE[key] && !(key === "epochs" && settings.epochs === STOP_AT_LOSS.epochs && settings.stop_loss > 0));
  const words = differs.map((key) => `${CONTROLS[key].label} ${(CONTROLS[key].text ?? format)(settings[key])}`);
  return [settings.world, ...words, ...(settings.seed ? [`seed ${settings.seed}`] : [])].join(", ");
}

// Runs that differ in nothing but the setting that is varied, in the order in which groups began: [{name, entries}].
function groupsOf(history, varied) {
  const groups = new Map();
  for (const entry of history) {
    const key = JSON.stringify({ ...entry.settings, [varied]: null });
    if (!groups.has(key)) groups.set(key, { name: nameOf(entry.settings, varied), entries: [] });
    groups.get(key).entries.push(entry);
  }
  return [...groups.values()];
}

// The newest groups have a shape each; those before them are grey, and all of them one line of the legend.
const isOld = (index, groups) => index < groups.length - SHAPES.length;

function legendMarks(groups) {
  const row = (name, shape, className) => mark("li", {}, mark("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" },
    mark("path", { d: shape, class: className })), name);
  const rows = groups.map(({ name, entries }, i) => (isOld(i, groups) ? null
    : row(`${name}: ${entries.length} ${entries.length > 1 ? "runs" : "run"}`, SHAPES[i % SHAPES.length], `lab-dot lab-group${i % SHAPES.length}`)));
  const old = groups.filter((_, i) => isOld(i, groups)).reduce((sum, { entries }) => sum + entries.length, 0);
  return [...(old ? [row(`earlier settings: ${old} ${old > 1 ? "runs" : "run"}`, SHAPES[0], "lab-dot lab-old")] : []), ...rows.filter(Boolean)];
}

// Vertical bars are two standard errors where a number has them; a line joins the runs of one group, never those of two.
function historyPicture(uid, history, groups, varied, across, up, width) {
  const height = 260;
  const box = { left: 58, right: width - 12, top: 12, bottom: height - 42 };
  const newest = history.at(-1);
  const placed = groups.map(({ entries }) => [...entries].sort((a, b) => a.settings[varied] - b.settings[varied])
    .map((entry) => ({ x: across.of(entry), y: up.of(entry), error: up.error?.(entry) ?? 0, newest: entry === newest }))
    .filter((p) => Number.isFinite(p.x) && Number.isFinite(p.y) && !(across.log && p.x <= 0)));
  const points = placed.flat();
  const x = spanned(points.map((p) => p.x), box.left, box.right, across.log);
  const y = spanned(points.flatMap((p) => [p.y - 2 * p.error, p.y + 2 * p.error]), box.bottom, box.top, false);
  const round = (v) => Math.round(10 * v) / 10;
  const middle = (box.top + box.bottom) / 2;
  const group = (members, i) => {
    const name = isOld(i, groups) ? "lab-old" : `lab-group${i % SHAPES.length}`;
    const shape = isOld(i, groups) ? SHAPES[0] : SHAPES[i % SHAPES.length];
    const line = members.map((p, at) => `${at ? "L" : "M"}${round(x(p.x))} ${round(y(p.y))}`).join("");
    return mark("g", { class: name },
      ...(members.length > 1 && !isOld(i, groups) ? [mark("path", { d: line, class: "lab-joined" })] : []),
      ...members.filter((p) => p.error > 0).map((p) => mark("line", { x1: round(x(p.x)), x2: round(x(p.x)), y1: round(y(p.y - 2 * p.error)), y2: round(y(p.y + 2 * p.error)), class: "lab-error" })),
      ...members.map((p) => mark("path", { d: shape, transform: `translate(${round(x(p.x))} ${round(y(p.y))})`, class: `lab-dot ${name}${p.newest ? " lab-last" : ""}` })));
  };
  const marks = [
    mark("title", { id: `${uid}-history-title` }, `${up.label} against ${across.label} for ${history.length} ${history.length === 1 ? "run" : "runs"} in ${groups.length} ${groups.length === 1 ? "group" : "groups"} of settings`),
    ...y.ticks.flatMap((v) => [
      mark("line", { x1: box.left, x2: box.right, y1: round(y(v)), y2: round(y(v)), class: "lab-grid" }),
      mark("text", { x: box.left - 6, y: round(y(v)) + 4, "text-anchor": "end" }, format(v)),
    ]),
    ...x.ticks.map((v) => mark("text", { x: round(x(v)), y: box.bottom + 16, "text-anchor": "middle" }, format(v))),
    mark("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, class: "lab-axis" }),
    mark("text", { x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, across.label),
    mark("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, up.label),
    ...placed.map(group),
    ...(points.length && points.length < history.length ? [mark("text", { x: box.right, y: 10, "text-anchor": "end", class: "lab-small" }, `${history.length - points.length} of ${history.length} runs have no place on these axes`)] : []),
    ...(points.length ? [] : [mark("text", { x: (box.left + box.right) / 2, y: middle, "text-anchor": "middle", class: "lab-small" }, history.length ? "no run has a place on these axes" : "drawn once networks have trained")]),
  ];
  return { width, height, marks };
}

// A chart with its two choices; `asked` is called when a reader makes one.
function makeChart(uid, across, up, asked) {
  const svg = make("svg", { role: "img", "aria-labelledby": `${uid}-history-title` }, ...waiting(`${uid}-history`));
  const labels = (options) => Object.fromEntries(Object.entries(options).map(([key, { label }]) => [key, label]));
  const chart = { across, up, svg };
  const choices = {
    up: chooser(`${uid}-up`, "up", labels(UP), up, (key) => { chart.up = key; asked(); }),
    across: chooser(`${uid}-across`, "across", labels(ACROSS), across, (key) => { chart.across = key; asked(); }),
  };
  chart.node = make("div", { class: "lab-chart" }, make("div", { class: "lab-row" }, choices.up.node, choices.across.node), svg);
  chart.look = (key) => { choices.across.select.value = chart.across = key; };
  return chart;
}
