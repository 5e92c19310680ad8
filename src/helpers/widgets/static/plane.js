
// ---- the plane (helpers.widgets.plane), a further kind of chart ------------------------------------------------------------
// chart.frames[frame][i] is a list of polylines x0, y0, x1, y1, ...; null: the same as in the first frame.
// chart.kinds[i] says whether series i is a path, points, a line or a region.

const CROWD = 40; // points: more of them are small, and lie below the lines
const pairs = (walk) => Array.from({ length: walk.length / 2 }, (_, j) => [walk[2 * j], walk[2 * j + 1]]);
const walksOf = (chart, position, i) => (chart.frames[frameIndex(chart, position)][i] ?? chart.frames[0][i]).map(pairs);

// With equal units the frame takes the shape of what it shows.
function planeBox(width, chart) {
  const box = frameOf(width);
  const [across, up] = [chart.x.range, chart.y.range].map(([low, high]) => high - low);
  const room = box.right - box.left;
  if (!chart.equal) return { ...box, bottom: box.top + Math.round(Math.max(180, Math.min(440, room * 0.62))) };
  const unit = Math.min(room / across, 440 / up);
  return { ...box, right: box.left + across * unit, bottom: box.top + up * unit };
}

function planeScales(chart, box) {
  const [x, y] = [chart.x, chart.y];
  return [scale(x.range, [box.left, box.right], x.log), scale(y.range, [box.bottom, box.top], y.log)];
}

function drawPlane(svg, chart, position, log, width, uid) {
  const box = planeBox(width, chart);
  const [x, y] = planeScales(chart, box);
  const trace = (walk) => `M${walk.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("L")}`;
  axes(svg, box, null, y, chart, ticks(x.low, x.high, width / 70, x.log).map((v) => [x(v), tickText(v)]));
  const inner = innerLayer(svg, box, uid);
  for (const { lines } of chart.contours) {
    if (lines.length) inner.append(make("path", { d: lines.map((line) => trace(pairs(line))).join(""), class: "fi-contour" }));
  }
  const at = marked(chart, position);
  const regions = chart.kinds.map((kind, i) => (kind === "region" ? i : null)).filter((i) => i !== null);
  const crowd = (i) => chart.kinds[i] === "points" && walksOf(chart, position, i)[0].length > CROWD;
  const depth = (i) => (regions.includes(i) ? 2 : crowd(i) ? 1 : 0); // a crowd would hide the lines
  const order = [...chart.series.keys()].sort((a, b) => depth(b) - depth(a) || b - a); // first on top
  for (const i of order) {
    const style = { "stroke-dasharray": dashes(i), "data-series": i };
    const walks = walksOf(chart, position, i);
    for (const walk of walks) {
      if (chart.kinds[i] === "points") {
        const many = walk.length > CROWD;
        const dots = walk.map(([a, b]) => glyph(i, x(a), y(b), false, many ? 0.5 : 1));
        inner.append(make("g", many ? { class: "fi-crowd" } : {}, ...dots));
      } else if (chart.kinds[i] === "region") {
        const fill = `url(#${uid}-hatch${regions.indexOf(i) % 2})`;
        inner.append(make("path", { d: `${trace(walk)}Z`, fill, class: `fi-region fi-s${(i % 5) + 1}`, ...style }));
      } else {
        const here = chart.kinds[i] === "path" ? (at ?? walk.length - 1) : null;
        const thin = walks.length > 1 ? " fi-thin" : "";
        const name = `fi-line fi-s${(i % 5) + 1}${thin}`;
        if (here !== null && here < walk.length - 1) inner.append(make("path", { d: trace(walk.slice(here)), class: `${name} fi-ahead` }));
        if (chart.glow?.includes(i)) inner.append(make("path", { d: trace(walk), class: `fi-line fi-glow fi-s${(i % 5) + 1}` }));
        inner.append(make("path", { d: trace(here === null ? walk : walk.slice(0, here + 1)), class: name, ...style }));
        if (here !== null) {
          const every = Math.ceil(walk.length / 7);
          const shown = walk.slice(0, here).filter((_, j) => walks.length === 1 && j % every === 0);
          inner.append(...shown.map(([a, b]) => glyph(i, x(a), y(b), false, 0.8)));
          const end = glyph(i, x(walk[here][0]), y(walk[here][1]), false, walks.length > 1 ? 0.8 : 1.2);
          end.classList.add("fi-here");
          inner.append(end);
        }
      }
    }
  }
  const path = chart.kinds.indexOf("path");
  return {
    // The stop along the first path that lies nearest to a click.
    nearest(px, py) {
      const far = walksOf(chart, position, path)[0].map(([a, b]) => Math.hypot(x(a) - px, y(b) - py));
      return far.indexOf(Math.min(...far));
    },
  };
}

function planeWords(chart, position) {
  const at = marked(chart, position);
  const index = frameIndex(chart, position);
  const parts = Object.entries(chart.readings).map(([name, values]) => {
    const value = values[index];
    return `${name} ${format(number(Array.isArray(value) ? value[at] : value))}`;
  });
  chart.series.forEach((name, i) => {
    const walks = walksOf(chart, position, i);
    const point = chart.kinds[i] === "path" ? walks[0][at ?? walks[0].length - 1] : walks[0][0];
    const single = walks.length === 1 && (chart.kinds[i] === "path" || (chart.kinds[i] === "points" && walks[0].length === 1));
    if (single) parts.push(`${name} at (${format(point[0])}, ${format(point[1])})`);
  });
  const sentence = [where(chart, position), parts.join("; ")].filter(Boolean).join(": ");
  return sentence && `${sentence}.`;
}

function planeTable(chart, position) {
  const rows = chart.series.flatMap((name, i) =>
    walksOf(chart, position, i)[0].map(([a, b], j) => [`${name}, ${j + 1}`, format(a), format(b)]));
  const every = Math.ceil(rows.length / 24);
  return { head: ["point", chart.x.label, chart.y.label], rows: rows.filter((_, j) => j % every === 0) };
}

function planeKey(i, uid, chart) {
  const kind = chart.kinds[i];
  if (kind === "points") return [glyph(i, 17, 7)];
  if (kind === "region") {
    const nth = chart.kinds.slice(0, i).filter((other) => other === "region").length;
    const size = { x: 4, y: 1, width: 26, height: 12 };
    return [make("rect", { ...size, fill: `url(#${uid}-hatch${nth % 2})`, class: `fi-region fi-s${(i % 5) + 1}`, "stroke-dasharray": dashes(i) })];
  }
  return kind === "path" ? [lineKey(i), glyph(i, 17, 7)] : [lineKey(i)];
}

KINDS.plane = { box: planeBox, draw: drawPlane, words: planeWords, table: planeTable, key: planeKey, log: false };
