// ---- the evidence: how fast the training loss rises around two settings, and the gaps of both -----------------------------------------

// What two settings differ in, in words for each; one alone is called by its world.
function apartIn(a, b) {
  const words = (settings, key) => (key === "world" ? SHORT[settings.world] : key === "seed" ? `seed ${settings.seed}` : `${CONTROLS[key].label} ${(CONTROLS[key].text ?? format)(settings[key])}`);
  const keys = Object.keys(a).filter((key) => a[key] !== b[key]);
  return [a, b].map((settings) => keys.map((key) => words(settings, key)).join(", "));
}

// Same samples, so that runs and test examples can be compared in pairs.
const SAMPLED = ["world", "n", "label_noise", "toy_noise", "seed"];
const pairable = (a, b) => SAMPLED.every((key) => a.settings[key] === b.settings[key]);

// Why the newest run is not compared with the one before, and of which of them that is; null where it is.
function unpaired(newest, before) {
  const [now, then] = [newest, before].map(({ settings }) => settings);
  if (now.world !== then.world) return `they are of two worlds, ${SHORT[now.world].toLowerCase()} and, before, ${SHORT[then.world].toLowerCase()}`;
  if (!pairable(newest, before)) {
    const samples = (one, other) => Object.fromEntries(SAMPLED.map((key) => [key, one[key]]).filter(([key, value]) => value !== other[key]));
    return `they have other samples, ${apartIn(samples(now, then), samples(then, now)).join(" and, before, ")}`;
  }
  const [last, first] = [untrained(newest), untrained(before)];
  return last ? `the newest is left out, for ${last}` : first ? `the one before is left out, for ${first}` : null;
}

// What the picture shows, {names, seeds: [{seed, ends, meant, over, known, apart}], all}: the newest run beside the one before,
// or null. `over` is the paired difference of the gaps, flatter less sharper, as the verdict takes it; `all` is the same over seeds.
function newestTwo(history) {
  const [newest, before] = [history.at(-1), history.at(-2)];
  if (!newest) return null;
  if (!before) return { names: ["the newest run"], seeds: [{ seed: newest.settings.seed, ends: [newest], meant: null }] };
  const [now, then] = apartIn(newest.settings, before.settings);
  const apart = unpaired(newest, before);
  const held = apart ? { over: null, known: false } : difference([before, newest]);
  const meant = held.over || held.trace === null ? meantBy(held) : undefined;
  return { names: [`the newest run: ${now}`, `the run before: ${then}`], before: true, seeds: [{ seed: newest.settings.seed, ends: [newest, before], meant, apart, ...held }] };
}

// The two ends of a sweep over `key`, for every seed that has both; null where none has.
function endsOf(key, pairs) {
  if (!pairs.length) return null;
  const seeds = pairs.map((ends) => ({ seed: ends[0].settings.seed, ends, ...difference(ends), meant: flatterMeant(ends) }));
  const changes = seeds.map(({ trace }) => (trace === null ? 0 : sign(trace)));
  const flatter = changes.every((one) => one > 0) ? 0 : changes.every((one) => one < 0) ? 1 : null;
  return { names: pairs[0].map(({ settings }, end) => `${CONTROLS[key].label} ${format(settings[key])}${end === flatter ? ", by the trace the flatter" : ""}`),
    seeds, all: overSeeds(pairs) };
}

// Rise of the training loss at each distance, over all directions of all seeds; null where a run has none.
function pooled(entries) {
  const all = entries.map(({ results }) => results.along);
  if (!all.length || !all.every((one) => one?.mean.every(Number.isFinite))) return null;
  const over = (key, pick) => all[0].distances.map((_, t) => pick(all.map((one) => one[key][t])));
  return { distances: all[0].distances, directions: all.reduce((sum, one) => sum + one.directions, 0),
    mean: over("mean", average), low: over("low", (v) => Math.min(...v)), high: over("high", (v) => Math.max(...v)) };
}

const MEANT = { larger: "larger", smaller: "smaller", same: "open", null: "open" }; // the gap of the flatter
const groupOf = (shown, end) => (shown.before && end === 1 ? "lab-old" : `lab-group${end}`);
const roundly = (v) => Math.round(10 * v) / 10;

// The frame of a part of the picture with its axes' names and ticks.
function frameMarks(box, y, across, up, wide) {
  const middle = (box.top + box.bottom) / 2;
  return [
    ...y.ticks.flatMap((v) => [
      mark("line", { x1: box.left, x2: box.right, y1: roundly(y(v)), y2: roundly(y(v)), class: "lab-grid" }),
      mark("text", { x: box.left - 6, y: roundly(y(v)) + 4, "text-anchor": "end" }, format(v)),
    ]),
    mark("path", { d: `M${box.left} ${box.top}V${box.bottom}${wide ? `H${box.right}` : ""}`, class: "lab-axis" }),
    across && mark("text", { x: (box.left + box.right) / 2, y: box.bottom + wide, "text-anchor": "middle" }, across),
    mark("text", { x: box.left - 46, y: middle, "text-anchor": "middle", transform: `rotate(-90 ${box.left - 46} ${middle})` }, up),
  ].filter(Boolean);
}

// How fast the loss rises: the mean over directions as a line, the least and the greatest as a band.
function riseMarks(uid, shown, box) {
  const ends = shown.names.map((_, end) => pooled(shown.seeds.map(({ ends }) => ends[end])));
  const drawn = ends.filter(Boolean);
  const scale = spanned([0, topOf(drawn)], box.bottom, box.top, false);
  const y = Object.assign((v) => Math.min(Math.max(scale(v), box.top), box.bottom + 4), { ticks: scale.ticks.filter((v) => v >= 0) });
  const furthest = Math.max(...drawn.flatMap(({ distances }) => distances), 1);
  const x = (s) => box.left + (s / furthest) * (box.right - box.left);
  const at = (s, v) => `${roundly(x(s))} ${roundly(y(v))}`;
  const series = ({ distances }, values) => [[0, 0], ...distances.map((s, t) => [s, values[t]])];
  const path = (points) => points.map(([s, v], i) => `${i ? "L" : "M"}${at(s, v)}`).join("");
  const ticks = drawn.length ? [0, ...drawn[0].distances.filter((s) => s % 2 === 0)] : [];
  return [
    ...frameMarks(box, y, "distance from the trained weights", "rise of the training loss, nats", 32),
    ...ticks.map((s) => mark("text", { x: roundly(x(s)), y: box.bottom + 16, "text-anchor": "middle" }, format(s))),
    ...ends.map((one, end) => one && mark("g", { class: groupOf(shown, end), "data-end": end },
      mark("path", { d: `${path(series(one, one.high))}${path(series(one, one.low).reverse()).replace("M", "L")}Z`, class: "lab-range" }),
      mark("path", { d: path(series(one, one.mean)), class: "lab-rise", "stroke-dasharray": end ? "7 4" : false }))).filter(Boolean),
  ];
}

// An axis of few ticks for a low frame.
function lowAxis(values, box) {
  const y = spanned(values.filter(Number.isFinite), box.bottom, box.top, false);
  const every = Math.ceil(y.ticks.length / 4);
  const zero = Math.max(y.ticks.indexOf(0), 0);
  return Object.assign((v) => y(v), { ticks: y.ticks.filter((_, i) => (i - zero) % every === 0) });
}

// The gaps, seed by seed; below them what is judged: the paired difference of the gaps, flatter less sharper, with its 95 %
// interval against zero, for each seed and over all of them, and what each says.
function gapsMarks(uid, shown, box) {
  const two = shown.names.length > 1;
  const middle = box.top + (two ? 0.4 : 1) * (box.bottom - box.top);
  const [above, below] = [{ ...box, bottom: middle }, { ...box, top: middle + 18 }];
  const values = shown.seeds.flatMap(({ ends }) => ends.map(({ results }) => results.gap.value));
  const y = lowAxis([0, ...values], above);
  const judged = [...shown.seeds.map(({ seed, over, known, meant }) => ({ name: `seed ${seed}`, over, known, words: MEANT[meant] ?? "not compared" })),
    ...(shown.all ? [{ name: "all", over: shown.all, known: true, words: sign(shown.all) ? MEANT[sign(shown.all) > 0 ? "larger" : "smaller"] : MEANT.same, all: true }] : [])];
  const z = lowAxis([0, ...judged.flatMap(({ over }) => (over ? [over.low, over.high] : []))], below);
  const slot = (box.right - box.left) / judged.length;
  const at = (i) => roundly(box.left + slot * (i + 0.5));
  const zero = (scale) => mark("line", { x1: box.left, x2: box.right, y1: roundly(scale(0)), y2: roundly(scale(0)), class: "lab-cap" });
  return [
    ...frameMarks(above, y, "", "gap, nats", 0), zero(y),
    ...shown.seeds.flatMap(({ ends }, i) => ends.map(({ results: { gap } }, end) => mark("g", { class: groupOf(shown, end) },
      mark("path", { d: SHAPES[end], transform: `translate(${at(i) + (ends.length > 1 ? (end ? 7 : -7) : 0)} ${roundly(y(gap.value))})`, class: "lab-dot lab-last" })))),
    ...(two ? [...frameMarks(below, z, "", "difference", 0), mark("g", { class: "lab-zero" }, zero(z))] : []),
    ...(two ? judged : []).flatMap(({ over, known, all }, i) => (over === null || !over ? [] : [mark("g", { class: `lab-difference${known ? "" : " lab-unknown"}${all ? " lab-all" : ""}` },
      mark("path", { d: `M${at(i)} ${roundly(z(over.low))}V${roundly(z(over.high))}m-4 0h8M${at(i) - 4} ${roundly(z(over.low))}h8`, class: "lab-reach" }),
      mark("circle", { cx: at(i), cy: roundly(z(over.value)), r: 3.4, class: "lab-centre" }))])),
    ...(judged.some(({ over, known }) => over && !known) ? [mark("text", { x: box.right, y: below.top + 2, "text-anchor": "end", class: "lab-small" }, "dashed: traces cannot be told apart")] : []),
    ...judged.flatMap(({ name, words }, i) => [name, ...(two ? [words] : [])].map((word, line) => mark("text", { x: at(i), y: box.bottom + 15 + 12 * line, "text-anchor": "middle", class: line ? "lab-small" : false }, word))),
  ];
}

// Frames with their axes and a sentence, before there is anything to draw.
function emptyMarks(box, across, up) {
  const y = spanned([0, 1], box.bottom, box.top, false);
  return [...frameMarks(box, Object.assign(y, { ticks: [] }), across, up, 32),
    mark("text", { x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2, "text-anchor": "middle", class: "lab-small" }, "drawn once networks have trained")];
}

const HIGH = 216; // of a part of the picture

// Both parts side by side, one below the other on a phone.
function evidencePicture(uid, shown, width) {
  const narrow = width < 520;
  const part = narrow ? width : width / 2;
  const box = (at) => ({ left: (narrow ? 0 : at * part) + 58, right: (narrow ? 0 : at * part) + part - 12, top: (narrow ? at * HIGH : 0) + 12, bottom: (narrow ? at * HIGH : 0) + HIGH - 36 });
  return { width, height: narrow ? 2 * HIGH : HIGH, marks: [
    mark("title", { id: `${uid}-title` }, "Flatness and gap"),
    mark("desc", { id: `${uid}-desc` }, "Left, how fast the training loss rises along random directions; right, the measured gaps, and below them their paired difference with its interval. The table below says the same in numbers."),
    ...(shown ? [...riseMarks(uid, shown, box(0)), ...gapsMarks(uid, shown, box(1))]
      : [...emptyMarks(box(0), "distance from the trained weights", "rise of the training loss, nats"), ...emptyMarks(box(1), "", "gap, nats")]),
  ] };
}

function evidenceLegend(shown) {
  if (!shown) return [];
  const count = pooled(shown.seeds.map(({ ends }) => ends[0]))?.directions;
  const key = (end) => mark("svg", { width: 30, height: 14, viewBox: "-15 -7 30 14", "aria-hidden": "true", class: groupOf(shown, end) },
    mark("path", { d: "M-15 0H15", class: "lab-rise", "stroke-dasharray": end ? "7 4" : false }), mark("path", { d: SHAPES[end], class: "lab-dot lab-last" }));
  return [...shown.names.map((name, end) => mark("li", {}, key(end), name)),
    ...(count ? [mark("li", {}, `line, band: mean, range of ${count} directions${bandIsCut(shown) ? ", cut at the frame" : ""}`)] : []),
    ...(shown.seeds.some(({ over }) => over) ? [mark("li", {}, "bar: flatter less sharper, in pairs, 95 %")] : [])];
}

const topOf = (drawn) => Math.max(...drawn.flatMap(({ mean }) => mean), 1e-9) * 1.25;
const endsDrawn = (shown) => shown.names.map((_, end) => pooled(shown.seeds.map(({ ends }) => ends[end]))).filter(Boolean);
function bandIsCut(shown) {
  const drawn = endsDrawn(shown);
  const top = topOf(drawn);
  return drawn.some(({ low, high }) => Math.max(...high) > top || Math.min(...low) < -0.06 * top);
}

const TOLD_AT = [2, 4, 8]; // distances in the table

function evidenceTable(shown) {
  const heads = ["setting", "seed", "trace", ...TOLD_AT.map((s) => `rise at distance ${s} (least to greatest)`), "gap", "standard error", "gap of the flatter less that of the other (95 %)"];
  const between = ({ over, meant }) => (over ? `${format(over.value, 2)} (${spanOf(over)})${meant === null ? ", traces not told apart" : ""}` : "not compared");
  const cell = (i, text) => mark("td", { "data-label": heads[i] }, text);
  const rise = (along, s) => {
    const t = along ? along.distances.indexOf(s) : -1;
    return t < 0 ? "none" : `${format(along.mean[t], 2)} (${format(along.low[t], 2)} to ${format(along.high[t], 2)})`;
  };
  const rows = shown.seeds.flatMap(({ seed, ends, ...held }) => ends.map(({ results }, end) => mark("tr", {}, mark("th", { scope: "row" }, shown.names[end]),
    cell(1, String(seed)), cell(2, format(results.trace)), ...TOLD_AT.map((s, i) => cell(3 + i, rise(results.along, s))),
    cell(6, format(results.gap.value)), cell(7, format(results.gap.standard_error, 2)), cell(8, ends.length > 1 ? between(held) : "none"))));
  if (shown.all) rows.push(mark("tr", {}, mark("th", { scope: "row" }, "over all seeds"), ...heads.slice(1, -1).map((_, i) => cell(1 + i, "")), cell(8, `${format(shown.all.value, 2)} (${spanOf(shown.all)})`)));
  return [mark("thead", {}, mark("tr", {}, ...heads.map((text) => mark("th", { scope: "col" }, text)))), mark("tbody", {}, ...rows)];
}
