// ---- training: k runs in lockstep, and what the bounds need from the way -----------------------------------------------------
// The update is that of torch.optim.SGD; with a temperature > 0 (and no momentum) it is Langevin's: sigma^2 = 2 lr temperature.

// Trace of the covariance (divisor k - 1) of the k vectors in `rows`: helpers.training.lockstep.trace_covariance.
function trace_covariance(rows) {
  const [k, d] = [rows.length, rows[0].length];
  let sum = 0;
  for (let j = 0; j < d; j++) {
    let mean = 0;
    for (let i = 0; i < k; i++) mean += rows[i][j];
    mean /= k;
    for (let i = 0; i < k; i++) sum += (rows[i][j] - mean) ** 2;
  }
  return sum / (k - 1);
}

function makeLockstep(shape, start, samples, { batch_size, lr, momentum = 0, temperature = 0, noise = [] }) {
  const empty = () => samples.map(() => new Float64Array(shape.d));
  return {
    shape, samples, batch_size, lr, momentum, noise,
    sigma: Math.sqrt(2 * lr * temperature),
    batches: Math.floor(samples[0].n / batch_size),
    weights: samples.map(() => start.slice()),
    velocity: empty(),
    gradients: empty(),
    updates: empty(),
    room: scratch(shape),
    steps: 0,
    dispersion: 0, // sum over steps of the cross-run variance of the update
    losses: [], // mean over runs and steps of each epoch
    incoherence: samples.map((sample) => new Float64Array(sample.n)), // langevin.train, for each run and example
  };
}

// One step of every run on the examples order[from], ..., order[from + batch_size - 1].
function step(runs, orders, batch) {
  const { shape, batch_size, lr, momentum, sigma, room } = runs;
  const [from, to] = [batch * batch_size, (batch + 1) * batch_size];
  let loss = 0;
  runs.samples.forEach((sample, r) => {
    const [W, g, v, update] = [runs.weights[r], runs.gradients[r], runs.velocity[r], runs.updates[r]];
    loss += batch_gradient(shape, W, sample, orders[r], from, to, g, Infinity, room);
    if (sigma > 0) langevin.record(runs, r, orders[r], from, to);
    for (let j = 0; j < shape.d; j++) {
      v[j] = momentum * v[j] + g[j];
      update[j] = -lr * v[j];
      if (sigma > 0) update[j] += sigma * normal(runs.noise[r]);
      W[j] += update[j];
    }
  });
  runs.dispersion += trace_covariance(runs.updates);
  runs.steps += 1;
  return loss / runs.samples.length;
}

// One pass of every run over its sample, in the orders given; a last batch that is not full is dropped.
function epoch(runs, orders) {
  let loss = 0;
  for (let batch = 0; batch < runs.batches; batch++) loss += step(runs, orders, batch);
  runs.losses.push(loss / runs.batches);
  return runs.weights.every((W) => W.every(Number.isFinite)) && Number.isFinite(loss);
}
