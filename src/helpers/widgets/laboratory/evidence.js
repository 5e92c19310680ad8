// ---- the evidence: how fast the training loss rises around two settings, and the gaps of both -----------------------------------------

// What two settings differ in, in words for each; one alone is called by its world.
function apartIn(a, b) {
  const words = (settings, key) => (key === "world" ? SHORT[settings.world] : key === "seed" ? `seed ${settings.seed}` : `${CONTROLS[key].label} ${(CONTROLS[key].text ?? format)(settings[key])}`);
  const keys = Object.keys(a).filter((key) => a[key] !== b[key]);
  return [a, b].map((settings) => keys.map((key) => words(settings, key)).join(", "));
}

// Same samples, so that runs and test examples can be compared in pairs.
const pairable = (a, b) => ["world", "n", "label_noise", "toy_noise", "seed"].every((key) => a.settings[key] === b.settings[key]);

// What the picture shows, {names, seeds: [{seed, ends, meant}]}: the newest run beside the one before, or null.
function newestTwo(history) {
  const [newest, before] = [history.at(-1), history.at(-2)];
  if (!newest) return null;
  if (!before) return { names: ["the newest run"], seeds: [{ seed: newest.settings.seed, ends: [newest], meant: null }] };
  const [now, then] = apartIn(newest.settings, before.settings);
  const meant = pairable(newest, before) ? flatterMeant([before, newest]) : undefined;
  return { names: [`the newest run: ${now}`, `the run before: ${then}`], before: true, seeds: [{ seed: newest.settings.seed, ends: [newest, before], meant }] };
}

// The two ends of a sweep over `key`, for every seed that has both; null where none has.
function endsOf(key, pairs) {
  if (!pairs.length) return null;
  const changes = pairs.map(([a, b]) => traceChange(a.results, b.results)).map((change) => (change === null ? 0 : sign(change)));
  const flatter = changes.every((one) => one > 0) ? 0 : changes.every((one) => one < 0) ? 1 : null;
  return { names: pairs[0].map(({ settings }, end) => `${CONTROLS[key].label} ${format(settings[key])}${end === flatter ? ", by the trace the flatter" : ""}`),
    seeds: pairs.map((ends) => ({ seed: ends[0].settings.seed, ends, meant: flatterMeant(ends) })) };
}

// Rise of the training loss at each distance, over all directions of all seeds; null where a run has none.
function pooled(entries) {
  const all = entries.map(({ results }) => results.along);
  if (!all.length || !all.every((one) => one?.mean.every(Number.isFinite))) return null;
  const over = (key, pick) => all[0].distances.map((_, t) => pick(all.map((one) => one[key][t])));
  return { distances: all[0].distances, directions: all.reduce((sum, one) => sum + one.directions, 0),
    mean: over("mean", average), low: over("low", (v) => Math.min(...v)), high: over("high", (v) => Math.max(...v)) };
}

const MEANT = { larger: ["flatter:", "larger gap"], smaller: ["flatter:", "smaller gap"], same: ["no", "answer"], null: ["no", "answer"] };
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
    mark("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, class: "lab-axis" }),
    mark("text", { x: (box.left + box.right) / 2, y: box.bottom + wide, "text-anchor": "middle" }, across),
    mark("text", { x: box.left - 42, y: middle, "text-anchor": "middle", transform: `rotate(-90 ${box.left - 42} ${middle})` }, up),
  ];
}

// How fast the loss rises: the mean over directions as a line, the least and the greatest as a band.
function riseMarks(uid, shown, box) {
  const ends = shown.names.map((_, end) => pooled(shown.seeds.map(({ ends }) => ends[end])));
  const drawn = ends.filter(Boolean);
  const top = Math.max(...drawn.flatMap(({ mean }) => mean), 1e-9) * 1.25;
  const scale = spanned([0, top], box.bottom, box.top, false);
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

// The gaps with two standard errors on either side, seed by seed, and what each seed says.
function gapsMarks(uid, shown, box) {
  const gaps = shown.seeds.flatMap(({ ends }) => ends.map(({ results }) => results.gap));
  const reach = ({ value, standard_error: error }) => [value - 2 * error, value + 2 * error];
  const y = spanned([0, ...gaps.flatMap(reach)].filter(Number.isFinite), box.bottom, box.top, false);
  const slot = (box.right - box.left) / shown.seeds.length;
  return [
    ...frameMarks(box, y, "", "gap, nats", 0),
    mark("line", { x1: box.left, x2: box.right, y1: roundly(y(0)), y2: roundly(y(0)), class: "lab-cap" }),
    ...shown.seeds.flatMap(({ seed, ends, meant }, i) => {
      const middle = box.left + slot * (i + 0.5);
      const words = [`seed ${seed}`, ...(shown.names.length > 1 ? MEANT[meant] ?? ["other", "samples"] : [])];
      return [
        ...ends.map(({ results: { gap } }, end) => {
          const x = roundly(middle + (ends.length > 1 ? (end ? 9 : -9) : 0));
          const [low, high] = reach(gap).map(y).map(roundly);
          return mark("g", { class: groupOf(shown, end) }, mark("line", { x1: x, x2: x, y1: low, y2: high, class: "lab-error" }),
            mark("path", { d: SHAPES[end], transform: `translate(${x} ${roundly(y(gap.value))})`, class: "lab-dot lab-last" }));
        }),
        ...words.map((word, line) => mark("text", { x: middle, y: box.bottom + 15 + 12 * line, "text-anchor": "middle", class: line ? "lab-small" : false }, word)),
      ];
    }),
  ];
}

// Both parts side by side, one below the other on a phone.
function evidencePicture(uid, shown, width) {
  const narrow = width < 520;
  const [high, part] = [232, narrow ? width : width / 2];
  const box = (at) => ({ left: (narrow ? 0 : at * part) + 58, right: (narrow ? 0 : at * part) + part - 12, top: (narrow ? at * high : 0) + 12, bottom: (narrow ? at * high : 0) + high - 46 });
  return { width, height: narrow ? 2 * high : high, marks: [
    mark("title", { id: `${uid}-title` }, "Flatness and gap"),
    mark("desc", { id: `${uid}-desc` }, "Left, how fast the training loss rises along random directions; right, the measured gaps. The table below says the same in numbers."),
    ...(shown ? [...riseMarks(uid, shown, box(0)), ...gapsMarks(uid, shown, box(1))] : []),
  ] };
}

function evidenceLegend(shown) {
  if (!shown) return [];
  const count = pooled(shown.seeds.map(({ ends }) => ends[0]))?.directions;
  const key = (end) => mark("svg", { width: 30, height: 14, viewBox: "-15 -7 30 14", "aria-hidden": "true", class: groupOf(shown, end) },
    mark("path", { d: "M-15 0H15", class: "lab-rise", "stroke-dasharray": end ? "7 4" : false }), mark("path", { d: SHAPES[end], class: "lab-dot lab-last" }));
  return [...shown.names.map((name, end) => mark("li", {}, key(end), name)),
    mark("li", {}, `${count ? `line and band: mean and range of ${count} random directions; ` : ""}bars: ± 2 s.e.`)];
}

const TOLD_AT = [2, 4, 8]; // distances in the table

function evidenceTable(shown) {
  const heads = ["setting", "seed", "trace", ...TOLD_AT.map((s) => `rise at distance ${s} (least to greatest)`), "gap", "standard error"];
  const cell = (i, text) => mark("td", { "data-label": heads[i] }, text);
  const rise = (along, s) => {
    const t = along ? along.distances.indexOf(s) : -1;
    return t < 0 ? "none" : `${format(along.mean[t], 2)} (${format(along.low[t], 2)} to ${format(along.high[t], 2)})`;
  };
  const rows = shown.seeds.flatMap(({ seed, ends }) => ends.map(({ results }, end) => mark("tr", {}, mark("th", { scope: "row" }, shown.names[end]),
    cell(1, String(seed)), cell(2, format(results.trace)), ...TOLD_AT.map((s, i) => cell(3 + i, rise(results.along, s))),
    cell(6, format(results.gap.value)), cell(7, format(results.gap.standard_error, 2)))));
  return [mark("thead", {}, mark("tr", {}, ...heads.map((text) => mark("th", { scope: "col" }, text)))), mark("tbody", {}, ...rows)];
}
