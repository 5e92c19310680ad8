// ---- the runs: boundaries, mistakes, the plane of the weights, the way down ---------------------------------------------------------

const RUN_DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const VIEWED = 1.9; // as portrait.js
const MISTAKE_GRID = { across: 5, down: 4 }; // as many as portrait.js has

// One path a class for the data, one a run for its boundary.
function boundaryMarks({ boundaries, points }, size) {
  const at = (v) => ((v + VIEWED) / (2 * VIEWED)) * size;
  const round = (v) => Math.round(10 * v) / 10;
  const classes = ["", "", ""];
  points.y.forEach((label, i) => {
    const [x, y] = [round(at(points.x[2 * i])), round(size - at(points.x[2 * i + 1]))];
    const shapes = [`M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0`, `M${x - 2.6} ${y - 2.6}h5.2v5.2h-5.2Z`, `M${x} ${y - 3.4}l3.2 5.6h-6.4Z`];
    classes[label] += shapes[label];
  });
  return [
    ...classes.map((d, label) => mark("path", { d, class: `lab-point lab-class${label}` })),
    ...boundaries.map((segments, r) => {
      let d = "";
      for (let i = 0; i < segments.length; i += 4) d += `M${round(at(segments[i]))} ${round(size - at(segments[i + 1]))}L${round(at(segments[i + 2]))} ${round(size - at(segments[i + 3]))}`;
      return mark("path", { d, class: "lab-boundary", "stroke-dasharray": RUN_DASHES[r] || false, "data-run": r });
    }),
  ];
}

// Digits as one path a grey level: pixels of a level that lie side by side in a row are one box.
function mistakeMarks({ mistakes }, pixels, size) {
  const [cell, tall] = [size / MISTAKE_GRID.across, size / MISTAKE_GRID.down];
  const scale = Math.min(cell - 12, tall - 30) / 8; // two lines of words stand under each
  const round = (v) => Math.round(100 * v) / 100;
  const levels = Array.from({ length: 17 }, () => "");
  const [frames, words] = [[], []];
  mistakes.shown.forEach(({ place, label, answers, count }, i) => {
    const [x, y] = [(i % MISTAKE_GRID.across) * cell + 3, Math.floor(i / MISTAKE_GRID.across) * tall + 3];
    const start = (POOL_OF_ENGINE + place) * 65;
    for (let row = 0; row < 8; row++) {
      for (let from = 0, to; from < 8; from = to) {
        const grey = pixels[start + 8 * row + from];
        for (to = from + 1; to < 8 && pixels[start + 8 * row + to] === grey;) to += 1;
        const wide = round((to - from) * scale + 0.3);
        levels[grey] += `M${round(x + from * scale)} ${round(y + row * scale)}h${wide}v${round(scale + 0.3)}h-${wide}z`;
      }
    }
    const others = [...new Set(answers.filter((answer) => answer !== label))];
    const wrong = others[0] + (others.length > 1 ? "…" : "");
    frames.push(`M${round(x)} ${round(y)}h${round(8 * scale)}v${round(8 * scale)}h-${round(8 * scale)}z`);
    words.push(mark("text", { x: round(x), y: round(y + scale * 8 + 12) }, `${label} → ${wrong}`),
      mark("text", { x: round(x), y: round(y + scale * 8 + 24), class: "lab-small" }, `${count} of ${answers.length}`));
  });
  if (!mistakes.shown.length) return [mark("text", { x: size / 2, y: size / 2, "text-anchor": "middle" }, "No test digit is wrong.")];
  return [
    mark("path", { d: frames.join(""), class: "lab-paper" }),
    ...levels.slice(1).map((d, i) => mark("path", { d, "fill-opacity": (i + 1) / 16, class: "lab-ink" })),
    ...words,
  ];
}

// The paths of the weights and, around the end of each, the ghost: circles of one and two standard deviations.
function planeMarks({ paths, share }, ghost, size) {
  const all = paths.flat();
  const [xs, ys] = [all.map((p) => p[0]), all.map((p) => p[1])];
  const [low, high] = [[Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)]];
  const room = Math.max(high[0] - low[0], high[1] - low[1]) * 1.5 || 1;
  const centre = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
  const px = ([x, y]) => [size / 2 + ((x - centre[0]) / room) * size, size / 2 - ((y - centre[1]) / room) * size];
  const start = px([0, 0]);
  return [
    ...paths.flatMap((path, r) => {
      const end = px(path[path.length - 1]);
      return [
        ...[1, 2].map((times) => mark("circle", { cx: end[0], cy: end[1], r: Math.min((times * ghost * size) / room, 4 * size), class: "lab-ghost" })),
        mark("path", { d: `M${path.map((p) => px(p).map((v) => v.toFixed(1)).join(" ")).join("L")}`, class: `lab-path lab-run${r}`, "stroke-dasharray": RUN_DASHES[r] }),
        mark("circle", { cx: end[0], cy: end[1], r: 4, class: `lab-end lab-run${r}` }),
      ];
    }),
    mark("path", { d: `M${start[0] - 5} ${start[1]}h10M${start[0]} ${start[1] - 5}v10`, class: "lab-start" }),
    ...(ghost * size > (room * size) / 2 ? [mark("text", { x: 6, y: 42, class: "lab-small" }, "the ghost's first ring is larger than this frame")] : []),
    mark("text", { x: 6, y: 14, class: "lab-small" }, "cross: start; dots: ends; rings: the ghost's one and two σ√T"),
    mark("text", { x: 6, y: 28, class: "lab-small" }, `${Math.round(100 * share)} % of the movement lies in this plane`),
  ];
}

function lossMarks(losses, { epochs: most, stop_loss, world }, size) {
  const epochs = stop_loss > 0 ? losses.length : most;
  const box = { left: 38, right: size - 8, top: 10, bottom: size - 26 };
  const y = logScale([1e-4, 10], [box.bottom, box.top]);
  const x = (e) => box.left + ((box.right - box.left) * e) / Math.max(epochs, 1);
  return [
    ...logTicks(-4, 1, y, box),
    ...[Math.log(CLASSES_OF_ENGINE[world]), ...(stop_loss > 0 ? [stop_loss] : [])]
      .map((v) => mark("line", { x1: box.left, x2: box.right, y1: y(v), y2: y(v), class: "lab-cap" })),
    mark("path", { d: losses.map((v, i) => `${i ? "L" : "M"}${x(i + 1).toFixed(1)} ${y(v).toFixed(1)}`).join(""), class: "lab-path lab-run0" }),
    mark("text", { x: size / 2, y: size - 6, "text-anchor": "middle" }, `training loss, nats, over ${epochs} epochs`),
    ...(losses.some((v) => v < 1e-4 || v > 10) ? [mark("text", { x: box.right, y: box.top + 10, "text-anchor": "end", class: "lab-small" }, "what lies beyond the axis is drawn at its end")] : []),
  ];
}

// Whether there is something of this kind to draw.
function canDraw(kind, { portrait, plane, pixels, ghost }) {
  if (kind === "plane") return Boolean(plane) && ghost !== null;
  if (!portrait) return false;
  return kind === "losses" || Boolean(portrait.boundaries) || Boolean(portrait.mistakes && pixels);
}

// What the left picture shows: the runs themselves ("world"), their weights ("plane") or the losses on the way.
function runsPicture(kind, uid, drawn, size) {
  const { job, portrait, plane, pixels, ghost } = drawn;
  const digits = job.world === "digits";
  const titles = { world: digits ? "Test digits that networks get wrong, those of most networks first" : "Training data of one network, and the boundaries of all",
    plane: "The networks in the plane where they move most, with the ghosts of the closed form", losses: "Training loss" };
  const marks = () => {
    if (!canDraw(kind, drawn)) return [mark("rect", { x: 0.5, y: 0.5, width: size - 1, height: size - 1, class: "lab-paper" }),
      mark("text", { x: size / 2, y: size / 2, "text-anchor": "middle", class: "lab-small" }, "drawn once networks have trained")];
    if (kind === "losses") return lossMarks(portrait.losses, job, size);
    if (kind === "plane") return planeMarks(plane, ghost, size);
    return portrait.boundaries ? boundaryMarks(portrait, size) : mistakeMarks(portrait, pixels, size);
  };
  return { width: size, height: size,
    marks: [mark("title", { id: `${uid}-runs-title` }, titles[kind]), ...marks()] };
}
