// ---- training: k runs in lockstep, and what the bounds need from the way -----------------------------------------------------
// The update is that of torch.optim.SGD; with a temperature > 0 (and no momentum) it is Langevin's: sigma^2 = 2 lr temperature.

// Adds to `squares` the squared distance of each of the k vectors in `rows` from their mean.
function spread(rows, squares = new Float64Array(rows.length)) {
  const [k, d] = [rows.length, rows[0].length];
  for (let j = 0; j < d; j++) {
    let mean = 0;
    for (let i = 0; i < k; i++) mean += rows[i][j];
    mean /= k;
    for (let i = 0; i < k; i++) squares[i] += (rows[i][j] - mean) ** 2;
  }
  return squares;
}

// Trace of the covariance (divisor k - 1) of k vectors from their squares: helpers.training.lockstep.trace_covariance.
const trace_covariance = (squares) => squares.reduce((sum, v) => sum + v, 0) / (squares.length - 1);

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
    squares: new Float64Array(samples.length), // of each run, summed over steps: squared distance of its update from the mean
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
  spread(runs.updates, runs.squares);
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
