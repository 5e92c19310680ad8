// ---- flatness itself: the training loss along random directions around the trained weights -------------------------------------
// helpers.widgets.laboratory.along. Directions are not scaled to filters or layers: a distance is one in the weights as they are.

const DISTANCES = [1, 2, 3, 4, 6, 8];
const DIRECTIONS = 4; // of each run

const along = {
  // A direction of length 1, uniform on the sphere, (d).
  direction(d, next) {
    const u = Float64Array.from({ length: d }, () => normal(next));
    const length = norm(u);
    return u.map((v) => v / length);
  },

  // The mean loss at W + s u for each direction u and each distance s: one row a direction. The first layer's outputs are
  // affine in s, so they are computed once for all distances.
  losses_along(shape, W, directions, sample, clip, distances = DISTANCES) {
    const { inputs, hidden, classes, b1, W2, b2 } = shape;
    const [z, slope, a, p] = [hidden, hidden, hidden, classes].map((size) => new Float64Array(size));
    const own = W.subarray(W2);
    const layers = directions.map((u) => distances.map((s) => own.map((w, i) => w + s * u[W2 + i]))); // second layer, with its biases
    const sums = directions.map(() => new Float64Array(distances.length));
    const biases = b2 - W2;
    for (let i = 0; i < sample.n; i++) {
      const label = sample.y[i];
      products(W, 0, hidden, inputs, sample.x, i * inputs, z);
      for (let r = 0; r < directions.length; r++) {
        const u = directions[r];
        products(u, 0, hidden, inputs, sample.x, i * inputs, slope);
        for (let t = 0; t < distances.length; t++) {
          const [s, layer] = [distances[t], layers[r][t]];
          for (let j = 0; j < hidden; j++) {
            const v = z[j] + W[b1 + j] + s * (slope[j] + u[b1 + j]);
            a[j] = v > 0 ? v : 0;
          }
          products(layer, 0, classes, hidden, a, 0, p);
          let largest = -Infinity;
          for (let c = 0; c < classes; c++) {
            p[c] += layer[biases + c];
            if (p[c] > largest) largest = p[c];
          }
          let total = 0;
          for (let c = 0; c < classes; c++) total += Math.exp(p[c] - largest);
          const loss = largest + Math.log(total) - p[label];
          sums[r][t] += loss < clip ? loss : clip;
        }
      }
    }
    return sums.map((row) => row.map((sum) => sum / sample.n));
  },

  // The rise of the training loss at each distance: mean, least and greatest over all directions of all runs, and the
  // standard error over runs. `losses` are the runs' own.
  *rises(shape, weights, samples, losses, seed, clip) {
    const by_run = [];
    for (const [r, W] of weights.entries()) {
      const next = makeGenerator(seed, STREAMS.directions + r);
      const directions = Array.from({ length: DIRECTIONS }, () => along.direction(shape.d, next));
      by_run.push(along.losses_along(shape, W, directions, samples[r], clip).map((row) => row.map((v) => v - losses[r])));
      yield;
    }
    const at = (t) => by_run.map((rows) => mean(rows.map((row) => row[t])));
    const every = (pick) => DISTANCES.map((_, t) => pick(...by_run.flat().map((row) => row[t])));
    return {
      distances: DISTANCES, directions: DIRECTIONS * weights.length, mean: DISTANCES.map((_, t) => mean(at(t))),
      low: every(Math.min), high: every(Math.max), standard_error: DISTANCES.map((_, t) => Math.sqrt(variance(at(t)) / weights.length)),
      runs: DISTANCES.map((_, t) => at(t)),
    };
  },
};
