// ---- flatness itself: the training loss along random directions around the trained weights -------------------------------------
// helpers.widgets.laboratory.along. Directions are not scaled to filters or layers: a distance is one in the weights as they are.

const DISTANCES = [1, 2, 3, 4, 5, 6, 7, 8];
const DIRECTIONS = 4; // of each run

const along = {
  // A direction of length 1, uniform on the sphere, (d).
  direction(d, next) {
    const u = Float64Array.from({ length: d }, () => normal(next));
    const length = norm(u);
    return u.map((v) => v / length);
  },

  // The mean loss at W + s u for each distance s. The first layer's outputs are affine in s, so they are computed once for all.
  losses_along(shape, W, u, sample, clip, distances = DISTANCES) {
    const { inputs, hidden, classes, b1, W2, b2 } = shape;
    const [z, slope, a, p] = [hidden, hidden, hidden, classes].map((size) => new Float64Array(size));
    const layers = distances.map((s) => W.subarray(W2).map((w, i) => w + s * u[W2 + i])); // second layer, weights and biases
    const sums = new Float64Array(distances.length);
    const biases = b2 - W2;
    for (let i = 0; i < sample.n; i++) {
      products(W, 0, hidden, inputs, sample.x, i * inputs, z);
      products(u, 0, hidden, inputs, sample.x, i * inputs, slope);
      for (let t = 0; t < distances.length; t++) {
        const [s, layer] = [distances[t], layers[t]];
        for (let j = 0; j < hidden; j++) a[j] = Math.max(z[j] + W[b1 + j] + s * (slope[j] + u[b1 + j]), 0);
        products(layer, 0, classes, hidden, a, 0, p);
        let largest = -Infinity;
        for (let c = 0; c < classes; c++) largest = Math.max(largest, p[c] += layer[biases + c]);
        let total = 0;
        for (let c = 0; c < classes; c++) total += Math.exp(p[c] - largest);
        sums[t] += Math.min(largest + Math.log(total) - p[sample.y[i]], clip);
      }
    }
    return sums.map((sum) => sum / sample.n);
  },

  // The rise of the training loss at each distance: mean, least and greatest over all directions of all runs, and the
  // standard error over runs. `losses` are the runs' own.
  *rises(shape, weights, samples, losses, seed, clip) {
    const by_run = [];
    for (const [r, W] of weights.entries()) {
      const next = makeGenerator(seed, STREAMS.directions + r);
      by_run.push(Array.from({ length: DIRECTIONS }, () => along.losses_along(shape, W, along.direction(shape.d, next), samples[r], clip).map((v) => v - losses[r])));
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
