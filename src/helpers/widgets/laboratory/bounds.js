// ---- bounds: the names are those of the package, helpers.wang_mao, helpers.omniscient and so on -----------------------------------

const mean = (numbers) => numbers.reduce((sum, v) => sum + v, 0) / numbers.length;
const variance = (numbers) => { // divisor n - 1
  const centre = mean(numbers);
  return numbers.reduce((sum, v) => sum + (v - centre) ** 2, 0) / (numbers.length - 1);
};
const norm = (v) => Math.sqrt(dot(v, 0, v, 0, v.length));

const wang_mao = {
  // The minimum of A / sigma + B sigma^2.
  optimal_noise(A, B) {
    const [half, root] = [Math.cbrt(A / 2), Math.cbrt(B)];
    const flatness = half ** 2 * root;
    const sigma = A === 0 ? 0 : B === 0 ? Infinity : half / root;
    return { value: 3 * flatness, A, B, sigma, trajectory: 2 * flatness, flatness };
  },
  // Theorem 2, eq. 3: trajectory A = sqrt(R^2 dispersion / n), flatness B = T trace / 2.
  closed_form(dispersion, trace, { n, steps, R }) {
    return wang_mao.optimal_noise(R * Math.sqrt(dispersion / n), (steps / 2) * trace);
  },
  // From the end points alone: A = sqrt(R^2 tr Cov(W_T) / (n T)), B = T |trace| / 2.
  terminal(weights, trace, { n, steps, R }) {
    return wang_mao.optimal_noise(R * Math.sqrt(trace_covariance(spread(weights)) / (n * steps)), (steps / 2) * Math.abs(trace));
  },
  // Standard error over runs at the best noise, by the delta method: helpers.measurement.error_over_runs.
  error_over_runs(bound, traces, squares) {
    const share = (numbers, term) => { const centre = mean(numbers); return numbers.map((v) => (term === 0 ? 0 : (term * v) / centre)); };
    const [flat, moved] = [share(traces, bound.flatness), share([...squares], bound.trajectory / 2)];
    return Math.sqrt(variance(flat.map((v, r) => v + moved[r])) / flat.length);
  },
};

// (H + c I) x = b for every shift c from one Krylov space: helpers.curvature.solve_shifted.
curvature.solve_shifted = function solve_shifted(matvec, rhs, shifts, { rtol = 1e-6, max_iterations = 200 } = {}) {
  const d = rhs.length;
  const size = norm(rhs);
  if (size === 0) return shifts.map(() => ({ solution: new Float64Array(d), residual: 0, converged: true, negative_curvature: false }));
  const basis = [rhs.map((v) => v / size)];
  const [diagonal, coupling] = [[], []];
  const systems = shifts.map((shift) => ({ shift, pivots: [], residual: 1, indefinite: false }));
  let exhausted = false;
  while (diagonal.length < max_iterations && !exhausted && !systems.every((s) => s.indefinite || s.residual <= rtol)) {
    const vector = basis[basis.length - 1];
    const product = matvec(vector);
    diagonal.push(dot(vector, 0, product, 0, d));
    for (let twice = 0; twice < 2; twice++) for (const b of basis) add(product, 0, -dot(b, 0, product, 0, d), b, 0, d);
    const last = norm(product);
    const scale = Math.max(...diagonal.map(Math.abs), last, 1e-300);
    exhausted = last <= 10 * Number.EPSILON * scale || diagonal.length === d;
    const row = diagonal.length - 1;
    for (const system of systems) {
      if (system.indefinite) continue;
      const pivot = diagonal[row] + system.shift - (row ? coupling[row - 1] ** 2 / system.pivots[row - 1] : 0);
      if (pivot <= 0) { system.indefinite = true; continue; }
      system.pivots.push(pivot);
      system.residual = exhausted ? 0 : (system.residual * last) / pivot;
    }
    coupling.push(last);
    if (!exhausted) basis.push(product.map((v) => v / last));
  }
  return systems.map(({ shift, pivots, indefinite }) => {
    // (T + c I) y = |b| e_1 by the pivots: forward, then back
    const y = new Float64Array(pivots.length);
    for (let i = 0; i < y.length; i++) y[i] = i ? (-coupling[i - 1] / pivots[i - 1]) * y[i - 1] : size;
    for (let i = y.length - 1; i >= 0; i--) y[i] = (y[i] - (i + 1 < y.length ? coupling[i] * y[i + 1] : 0)) / pivots[i];
    const solution = new Float64Array(d);
    y.forEach((factor, i) => add(solution, 0, factor, basis[i], 0, d));
    const left = matvec(solution);
    for (let j = 0; j < d; j++) left[j] = rhs[j] - left[j] - shift * solution[j];
    const residual = norm(left) / size;
    return { solution, residual, converged: residual <= rtol, negative_curvature: indefinite };
  });
};

const omniscient = {
  // For each run the mean of the others.
  leave_one_out(weights) {
    return weights.map((_, i) => weights[0].map((_, j) => weights.reduce((sum, W, r) => sum + (r === i ? 0 : W[j]), 0) / (weights.length - 1)));
  },

  // Test loss minus training loss, with its standard error over runs and over the test examples that they share.
  gap(trained, tested) {
    const gaps = tested.map((run, i) => mean(run) - mean(trained[i]));
    const together = tested[0].map((_, j) => mean(tested.map((run) => run[j])));
    const error = Math.sqrt(variance(gaps) / gaps.length + variance(together) / together.length);
    return { value: mean(gaps), standard_error: error, by_run: gaps };
  },

  // One run's offsets e = W + Delta - m: (H + 2 lambda C I) e = H nu - (g_emp - g_pop), for every lambda.
  solve_path(shape, W, sample, centre, population_gradient, { clip, R, lambdas, rtol, max_iterations }) {
    const C = 1.5 * Math.cbrt((R ** 2 / sample.n) * Math.abs(curvature.trace(shape, W, sample, clip)));
    if (C === 0) return null; // no curvature at all: every example clipped
    const slope = curvature.gradient(shape, W, sample, clip);
    const rhs = curvature.hvp(shape, W, sample, W.map((w, j) => w - centre[j]), clip);
    for (let j = 0; j < shape.d; j++) rhs[j] -= slope[j] - population_gradient[j];
    const product = (v) => curvature.hvp(shape, W, sample, v, clip);
    return curvature.solve_shifted(product, rhs, lambdas.map((lam) => 2 * lam * C), { rtol, max_iterations }).map((s) => ({ ...s, C }));
  },

  // Losses and trace on the own sample and on held-out examples (null: none), and the share of all of them that is clipped.
  risks(shape, W, sample, held_out, clip) {
    const [own, other] = [sample, held_out].map((examples) => new Float64Array(examples === null ? 0 : examples.n));
    const trace = curvature.trace(shape, W, sample, clip, own)
      - (held_out === null ? 0 : curvature.trace(shape, W, held_out, clip, other));
    const clipped = own.filter((v) => v >= clip).length + other.filter((v) => v >= clip).length;
    const share = clipped / (own.length + other.length);
    return { own: mean(own), other: held_out === null ? 0 : mean(other), trace, clipped: share };
  },

  // One run moved by Delta: what changes there against the risks before. held_out is null for the self-certified variant.
  measure_run(shape, W, sample, held_out, centre, perturbation, before, clip) {
    const V = centre.map((m, j) => m + perturbation.solution[j]);
    const moved = omniscient.risks(shape, V, sample, held_out, clip);
    return {
      ...perturbation, n: sample.n, loss_emp: before.own, loss_pop: held_out === null ? NaN : before.other,
      squared_offset: dot(perturbation.solution, 0, perturbation.solution, 0, shape.d),
      penalty: Math.abs(moved.own - moved.other - (before.own - before.other)),
      trace_term: Math.abs(moved.trace), clipped: moved.clipped,
      delta_norm: norm(V.map((v, j) => v - W[j])), weight_norm: norm(W),
    };
  },

  // Means over runs, the best noise for the means, and their sum.
  row(lam, points, { R, steps, d }) {
    const over = (key) => points.map((point) => point[key]);
    const offsets = points.map((point) => point.squared_offset / point.n);
    const [penalty, trace_term] = [mean(over("penalty")), mean(over("trace_term"))];
    const noise = wang_mao.optimal_noise(R * Math.sqrt(mean(offsets) / steps), (steps / 2) * trace_term);
    const spread = points.map((point, i) => point.penalty
      + (noise.value > 0 ? (noise.value / 3) * (offsets[i] / mean(offsets) + point.trace_term / trace_term) : 0));
    return {
      ...noise, lam, value: noise.value + penalty, information: noise.value, penalty,
      M: mean(over("squared_offset")), trace_term, trace_error: 0, C: mean(over("C")), delta_norm: mean(over("delta_norm")),
      noise_to_weight: (noise.sigma * Math.sqrt(steps * d)) / mean(over("weight_norm")), clipped_share: mean(over("clipped")),
      residual: Math.max(...over("residual")), converged: points.every((p) => p.converged),
      negative_curvature: points.some((p) => p.negative_curvature),
      standard_error: Math.sqrt(variance(spread) / points.length), train_loss: mean(over("loss_emp")),
      holdout_gap: mean(points.map((p) => p.loss_pop - p.loss_emp)),
    };
  },

  // The bound for each lambda; `turn` is called between pieces of work, so that a page can draw in between.
  *paths(shape, weights, samples, population, held_out, { clip, R, lambdas, steps, rtol = 1e-6, max_iterations = 200 }) {
    const centres = omniscient.leave_one_out(weights);
    const points = [];
    for (const [i, W] of weights.entries()) {
      const path = omniscient.solve_path(shape, W, samples[i], centres[i], population[i], { clip, R, lambdas, rtol, max_iterations });
      if (path === null) return [];
      yield;
      points.push([]);
      const before = omniscient.risks(shape, W, samples[i], held_out, clip);
      for (const perturbation of path) {
        points[i].push(omniscient.measure_run(shape, W, samples[i], held_out, centres[i], perturbation, before, clip));
        yield;
      }
    }
    return lambdas.map((lam, at) => omniscient.row(lam, points.map((run) => run[at]), { R, steps, d: shape.d }));
  },
  *estimate(shape, weights, samples, val, val2, options) {
    const population = weights.map((W) => curvature.gradient(shape, W, val, options.clip));
    return yield* omniscient.paths(shape, weights, samples, population, val2, options);
  },
  *self_certified(shape, weights, samples, options) {
    const nothing = weights.map(() => new Float64Array(shape.d));
    return yield* omniscient.paths(shape, weights, samples, nothing, null, options);
  },
};

const supersample = {
  // I(Delta; U) = (a + b)[log 2 - h(a / (a + b))] from the 0–1 errors of k runs; the bound on the 0–1 gap is sqrt(2 I).
  counted(train_errors, test_errors) {
    const wrong_ghost = train_errors.map((e, i) => (1 - e) * test_errors[i]);
    const wrong_own = train_errors.map((e, i) => e * (1 - test_errors[i]));
    const part = (u, half) => (u > 0 ? u * Math.log(u / half) : 0);
    const nats = (a, b) => Math.max(part(a, (a + b) / 2) + part(b, (a + b) / 2), 0);
    const without = (column, i) => (column.reduce((s, v) => s + v, 0) - column[i]) / (column.length - 1);
    const jackknife = train_errors.map((_, i) => Math.sqrt(2 * nats(without(wrong_ghost, i), without(wrong_own, i))));
    const k = jackknife.length;
    const centre = mean(jackknife);
    const error = Math.sqrt(((k - 1) / k) * jackknife.reduce((sum, v) => sum + (v - centre) ** 2, 0));
    const [a, b] = [mean(wrong_ghost), mean(wrong_own)];
    return { value: Math.sqrt(2 * nats(a, b)), information: nats(a, b), gap: a - b, a, b, standard_error: error };
  },
};

const langevin = {
  // Adds (n / b)^2 lr^2 / sigma^2 |g_i - mean of the others in the batch|^2 for the examples of one step; the mean gradient
  // of the batch lies in runs.gradients[r]. |g_i - g|^2 = |g_i|^2 - 2 <g_i, g> + |g|^2, and g_i is made of outer products.
  record(runs, r, order, from, to) {
    const { shape, lr, sigma, room } = runs;
    const { inputs, hidden, classes, b1, W2, b2 } = shape;
    const [W, g, sample] = [runs.weights[r], runs.gradients[r], runs.samples[r]];
    const { a, p, h } = room;
    const b = to - from;
    const factor = ((sample.n / b) * (lr / sigma) * (b / (b - 1))) ** 2;
    const squared = dot(g, 0, g, 0, shape.d);
    for (let t = from; t < to; t++) {
      const i = order[t];
      const start = i * inputs;
      forward(shape, W, sample.x, start, sample.y[i], room);
      p[sample.y[i]] -= 1;
      backward(shape, W, p, a, h);
      const own = dot(p, 0, p, 0, classes) * (1 + dot(a, 0, a, 0, hidden))
        + dot(h, 0, h, 0, hidden) * (1 + dot(sample.x, start, sample.x, start, inputs));
      let product = 0;
      for (let c = 0; c < classes; c++) product += p[c] * (dot(g, W2 + c * hidden, a, 0, hidden) + g[b2 + c]);
      for (let j = 0; j < hidden; j++) if (h[j] !== 0) product += h[j] * (dot(g, j * inputs, sample.x, start, inputs) + g[b1 + j]);
      runs.incoherence[r][i] += factor * Math.max(own - 2 * product + squared, 0);
    }
  },
  // R / n sqrt(expected incoherence): the learner treats its examples alike, so runs and examples are averaged in the root.
  leave_one_out(incoherence, { n, R }) {
    const runs = incoherence.map((run) => mean(run));
    const value = (R / n) * Math.sqrt(mean(runs));
    return { value, standard_error: value > 0 ? (value / 2 / mean(runs)) * Math.sqrt(variance(runs) / runs.length) : 0 };
  },
};

// What speaks against a conclusion from one point: helpers.experiments.trends.warnings.
function warnings(point) {
  const reasons = [];
  if (!(point.noise_to_weight <= 1)) reasons.push("noise larger than the weights");
  if ("clipped_share" in point && !(point.clipped_share <= 0.05)) reasons.push("more than 5% of examples clipped");
  if (point.converged === false) reasons.push("solve not converged");
  if (point.negative_curvature) reasons.push("negative curvature");
  return reasons;
}
