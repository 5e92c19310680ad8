// ---- what the picture shows of the runs: boundaries, mistakes, and the plane of the weights -------------------------------------

const VIEW = 1.9; // toys are drawn in [-VIEW, VIEW]^2
const CELLS = 56;
const MISTAKES = 20;
const KEPT = 60; // weights kept on the way for the plane

// Where class scores change places on a grid, run by run: line segments x1, y1, x2, y2, ...
function boundaries({ shape, runs }) {
  const room = scratch(shape);
  const side = CELLS + 1;
  const at = (i) => -VIEW + (2 * VIEW * i) / CELLS;
  return runs.weights.map((W) => {
    const scores = [];
    for (let j = 0; j < side; j++) {
      for (let i = 0; i < side; i++) {
        forward(shape, W, [at(i), at(j)], 0, 0, room);
        scores.push(room.p.map(Math.log));
      }
    }
    const best = scores.map((z) => z.indexOf(Math.max(...z)));
    const segments = [];
    for (let j = 0; j < CELLS; j++) {
      for (let i = 0; i < CELLS; i++) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
        const crossings = [];
        corners.forEach(([x, y], c) => {
          const [u, v] = corners[(c + 1) % 4];
          const [p, q] = [y * side + x, v * side + u];
          if (best[p] === best[q]) return;
          const [from, to] = [scores[p][best[p]] - scores[p][best[q]], scores[q][best[p]] - scores[q][best[q]]];
          const t = from / (from - to);
          const part = Number.isFinite(t) ? t : 0.5;
          crossings.push([at(x + part * (u - x)), at(y + part * (v - y))]);
        });
        if (crossings.length === 2) segments.push(...crossings[0], ...crossings[1]);
        else if (crossings.length > 2) {
          const centre = [mean(crossings.map((c) => c[0])), mean(crossings.map((c) => c[1]))];
          for (const c of crossings) segments.push(...c, ...centre);
        }
      }
    }
    return segments.map((v) => Math.round(v * 1e3) / 1e3);
  });
}

// The test examples that runs get wrong, those of most runs first, then the dearest: their places in the test set, and what the runs say.
function mistakes({ shape, runs, samples }) {
  const { test } = samples;
  const room = scratch(shape);
  const said = runs.weights.map((W) => Array.from({ length: test.n }, (_, i) => {
    const loss = forward(shape, W, test.x, i * shape.inputs, test.y[i], room);
    return { answer: room.p.indexOf(Math.max(...room.p)), loss };
  }));
  const wrong = [];
  for (let i = 0; i < test.n; i++) {
    const answers = said.map((run) => run[i].answer);
    const count = answers.filter((answer) => answer !== test.y[i]).length;
    if (count) wrong.push({ place: i, label: test.y[i], answers, count, loss: mean(said.map((run) => run[i].loss)) });
  }
  wrong.sort((a, b) => b.count - a.count || b.loss - a.loss);
  return { total: wrong.length, shown: wrong.slice(0, MISTAKES) };
}

// Keeps the weights of this moment; every second one goes when there are too many.
function keep(prepared) {
  prepared.kept ??= [];
  prepared.every ??= 1;
  if (prepared.runs.losses.length % prepared.every) return;
  prepared.kept.push(prepared.runs.weights.map((W) => W.slice()));
  if (prepared.kept.length > KEPT) {
    prepared.kept = prepared.kept.filter((_, i) => i % 2 === 0);
    prepared.every *= 2;
  }
}

// The paths of the runs in the plane of their first two principal directions, around the common start.
function plane({ kept, start, runs }) {
  const rows = [...kept.flat(), ...runs.weights].map((W) => W.map((w, j) => w - start[j]));
  const gram = rows.map((a) => rows.map((b) => dot(a, 0, b, 0, a.length)));
  const total = gram.reduce((sum, row, i) => sum + row[i], 0);
  const found = [];
  for (let axis = 0; axis < 2; axis++) {
    let v = rows.map((_, i) => Math.sin(i + 1) + 0.1);
    for (let turn = 0; turn < 60; turn++) { // power iteration, orthogonal to what was found before
      for (const { vector } of found) { const along = dot(v, 0, vector, 0, v.length); v = v.map((x, i) => x - along * vector[i]); }
      v = gram.map((row) => dot(row, 0, v, 0, v.length));
      const length = norm(v) || 1;
      v = v.map((x) => x / length);
    }
    const size = Math.max(dot(v, 0, gram.map((row) => dot(row, 0, v, 0, v.length)), 0, v.length), 0);
    found.push({ vector: v, size });
  }
  const place = (i) => found.map(({ vector, size }) => Math.sqrt(size) * vector[i]);
  const k = runs.weights.length;
  const paths = runs.weights.map((_, r) => [[0, 0], ...kept.map((_, t) => place(t * k + r)), place(kept.length * k + r)]);
  return { paths, share: total > 0 ? found.reduce((sum, { size }) => sum + size, 0) / total : 0 };
}

// The gap as it is now, for those who watch.
function gapNow({ shape, runs, samples }) {
  const clip = 12 * Math.log(shape.classes);
  return mean(runs.weights.map((W, r) => mean(values(shape, W, samples.test, clip).losses) - mean(values(shape, W, samples.train[r], clip).losses)));
}

function portrait(prepared) {
  const { settings, runs, samples } = prepared;
  const toys = settings.world !== "digits";
  return {
    epoch: runs.losses.length, losses: runs.losses.slice(),
    boundaries: toys ? boundaries(prepared) : null,
    points: toys ? { x: [...samples.train[0].x], y: [...samples.train[0].y] } : null,
    mistakes: toys ? null : mistakes(prepared),
    gap: gapNow(prepared),
  };
}
