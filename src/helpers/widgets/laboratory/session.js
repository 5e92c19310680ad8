// ---- one setting: data, runs, bounds --------------------------------------------------------------------------------------------

const LAMBDAS = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000];
const RUNS = 4;
const DEFAULTS = {
  world: "digits", batch_size: 20, lr: 0.1, momentum: 0, epochs: 40, stop_loss: 0, width: 16, label_noise: 0, n: 200, temperature: 0,
  toy_noise: 0.2, seed: 0,
};

// Everything that a setting fixes before the first step.
function prepare(settings, all) {
  const { world, width, batch_size, lr, momentum, temperature, seed, n } = settings;
  const samples = roles({ ...settings, k: RUNS }, all);
  const shape = makeShape(INPUTS[world], width, CLASSES[world]);
  const start = initial(shape, makeGenerator(seed, STREAMS.weights));
  const noise = samples.train.map((_, r) => makeGenerator(seed, STREAMS.noise + r));
  const orders = samples.train.map((_, r) => makeGenerator(seed, STREAMS.orders + r));
  const options = { batch_size: Math.min(batch_size, n), lr, momentum: temperature > 0 ? 0 : momentum, temperature, noise };
  const next_orders = () => orders.map((next) => permutation(next, n));
  return { settings, shape, samples, start, next_orders, runs: makeLockstep(shape, start, samples.train, options) };
}

// Whether an epoch's training loss, the mean over its steps and the runs, has fallen below the one to stop at.
const reached = ({ settings, runs }) => settings.stop_loss > 0 && runs.losses.length > 0 && runs.losses.at(-1) < settings.stop_loss;
const trained = (prepared) => reached(prepared) || prepared.runs.losses.length >= prepared.settings.epochs;

// The measurements that are quick: risks, gaps, traces, closed form, end point, counted, Langevin.
function measure(prepared) {
  const { shape, samples, runs, settings } = prepared;
  const classes = shape.classes;
  const clip = 12 * Math.log(classes);
  const [n, steps, R] = [samples.train[0].n, runs.steps, clip / 2];
  const own = runs.weights.map((W, r) => values(shape, W, samples.train[r], clip));
  const tested = runs.weights.map((W) => values(shape, W, samples.test, clip));
  const risks = (of, key) => of.map((run) => mean(run[key]));
  const gap = omniscient.gap(own.map((run) => run.losses), tested.map((run) => run.losses));
  const error_gap = omniscient.gap(own.map((run) => run.errors), tested.map((run) => run.errors));
  const at = runs.weights.map((W, r) => {
    const [inside, outside] = [new Float64Array(samples.train[r].n), new Float64Array(samples.val2.n)];
    const [trained, held_out] = [curvature.trace(shape, W, samples.train[r], clip, inside), curvature.trace(shape, W, samples.val2, clip, outside)];
    const [a, b] = [inside, outside].map((losses) => losses.filter((v) => v >= clip).length);
    return { trained, held_out, clipped: a / n, clipped_both: (a + b) / (n + samples.val2.n) };
  });
  const over = (of) => at.map(of);
  const traces = over((run) => run.trained);
  const [trace, trace_val2] = [mean(traces), mean(over((run) => run.held_out))];
  const ends = spread(runs.weights);
  const length = mean(runs.weights.map(norm));
  const judged = (bound, squares) => ({ ...bound, noise_to_weight: (bound.sigma * Math.sqrt(steps * shape.d)) / length,
    clipped_share: mean(over((run) => run.clipped)), standard_error: wang_mao.error_over_runs(bound, traces, squares) });
  const judged_difference = (bound, squares) => ({ ...judged(bound, squares), clipped_share: mean(over((run) => run.clipped_both)),
    standard_error: wang_mao.error_over_runs(bound, over((run) => run.trained - run.held_out), squares) });
  const dispersion = trace_covariance(runs.squares);
  const sizes = { n, steps, R };
  const train_error = mean(risks(own, "errors"));
  const train_losses = risks(own, "losses");
  return {
    steps, n, d: shape.d, classes, clip, R, dispersion, trace, traces, trace_val2, weight_norm: length,
    variance: trace_covariance(ends), epochs: runs.losses.length, losses: runs.losses.slice(),
    reached: settings.stop_loss > 0 ? reached(prepared) : null,
    squares: [...runs.squares], ends: [...ends], // of each run: of the dispersion, of the variance of the ends
    test_losses: tested[0].losses.map((_, i) => mean(tested.map((run) => run.losses[i]))), // of each example, over runs
    train_losses, train_loss: mean(train_losses), test_loss: mean(risks(tested, "losses")),
    train_error, test_error: mean(risks(tested, "errors")), gap, error_gap,
    closed_form: judged(wang_mao.closed_form(dispersion, trace, sizes), runs.squares),
    closed_form_difference: judged_difference(wang_mao.closed_form(dispersion, Math.abs(trace - trace_val2), sizes), runs.squares),
    terminal: judged(wang_mao.terminal(runs.weights, trace, sizes), ends),
    terminal_difference: judged_difference(wang_mao.terminal(runs.weights, trace - trace_val2, sizes), ends),
    counted: supersample.counted(risks(own, "errors"), risks(tested, "errors")),
    langevin: settings.temperature > 0
      ? { ...langevin.leave_one_out(runs.incoherence, { n, R: 0.5 }), sigma: runs.sigma } : null,
  };
}

// Every bound of the runs as they are now, piece by piece: yields between pieces, returns the results.
function* answers(prepared, { lambdas = LAMBDAS, rtol = 1e-6 } = {}) {
  const { shape, samples, runs } = prepared;
  const results = measure(prepared);
  yield;
  results.along = yield* along.rises(shape, runs.weights, samples.train, results.train_losses, prepared.settings.seed, results.clip);
  const common = { clip: results.clip, R: results.R, lambdas, steps: results.steps, rtol };
  results.omniscient = yield* omniscient.estimate(shape, runs.weights, samples.train, samples.val, samples.val2, common);
  results.self_certified = yield* omniscient.self_certified(shape, runs.weights, samples.train, common);
  return results;
}

// Trains to the end and answers: yields after every epoch and between pieces of the answer.
function* session(prepared, options) {
  while (!trained(prepared)) {
    if (!epoch(prepared.runs, prepared.next_orders())) return { diverged: prepared.runs.losses.length };
    yield;
  }
  return yield* answers(prepared, options);
}
