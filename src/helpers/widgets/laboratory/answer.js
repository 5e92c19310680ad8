// ---- the answer of a sweep: trace and gap compared in pairs, and what may be said of them ---------------------------------------------

// 97.5 % quantile of Student's t: Cornish and Fisher's expansion around the normal one, right to 0.004 from 3 degrees of freedom on, to 1 % from 2 on.
function student(freedom) {
  const [z, v] = [1.959964, 1 / freedom];
  const terms = [[1, 1, 4], [3, 16, 5, 96], [-15, 17, 19, 3, 384], [-945, -1920, 1482, 776, 79, 92160]];
  return terms.reduce((sum, [...row], i) => {
    const divisor = row.pop();
    return sum + (v ** (i + 1) * row.reduce((inner, c, power) => inner + c * z ** (2 * power + 1), 0)) / divisor;
  }, z);
}

const average = (numbers) => numbers.reduce((sum, v) => sum + v, 0) / numbers.length;
const squaredError = (numbers) => { // of their mean
  const centre = average(numbers);
  return numbers.reduce((sum, v) => sum + (v - centre) ** 2, 0) / (numbers.length - 1) / numbers.length;
};
const sign = ({ low, high }) => (low > 0 ? 1 : high < 0 ? -1 : 0);

// Mean of the first list with its 95 % interval; the errors of all lists add, with Welch and Satterthwaite's degrees of freedom.
function interval(...lists) {
  const parts = lists.map((numbers) => ({ square: squaredError(numbers), freedom: numbers.length - 1 }));
  const square = parts.reduce((sum, part) => sum + part.square, 0);
  const freedom = square ** 2 / parts.reduce((sum, part) => sum + part.square ** 2 / part.freedom, 0);
  const [value, reach] = [average(lists[0]), square > 0 ? student(freedom) * Math.sqrt(square) : 0];
  return { value, low: value - reach, high: value + reach };
}

// Gap of b minus gap of a. Both settings have the same samples and test examples, so runs and examples are compared in
// pairs; the error is over runs and over examples, as that of the gap itself.
const gapChange = (a, b) => interval(b.gap.by_run.map((v, r) => v - a.gap.by_run[r]), Array.from(b.test_losses, (v, j) => v - a.test_losses[j]));

// log(trace of b / trace of a) over paired runs; null where a trace is not positive.
function traceChange(a, b) {
  const runs = b.traces.map((v, r) => Math.log(v / a.traces[r]));
  return runs.every(Number.isFinite) ? interval(runs) : null;
}

// Whether the settings ended at training losses too far apart for their traces and gaps to be compared without a word.
function fitUnequally(rows) {
  const losses = rows.map(({ results }) => results.train_loss);
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  return high > 1.5 * low ? { low, high } : null;
}

// The pairs of settings that can be told apart in trace and in gap, and in how many of them the flatter has the smaller gap.
function pairsOf(rows) {
  const pairs = rows.flatMap((a, i) => rows.slice(i + 1).map((b) => [traceChange(a.results, b.results), gapChange(a.results, b.results)]));
  const told = pairs.filter(([trace, gap]) => trace !== null && sign(trace) !== 0 && sign(gap) !== 0);
  return { all: pairs.length, told: told.length, flatter: told.filter(([trace, gap]) => sign(trace) === sign(gap)).length };
}

// Does flatter mean a smaller gap? {verdict, seeds, details}: the line over the seeds, what each says, and sentences on the rows of the sweep
// over the setting `key` at its first seed; `lost` are the settings that gave no row, {value, seed, why}; `between` as headline.
function answerOf(rows, lost, key, pairs, asked = pairs.length, between = "") {
  const name = ({ value, seed, why }) => `${format(value)}${seed === undefined ? "" : `, seed ${seed}`} (${why})`;
  const left = lost.length ? ` Left out ${lost.length === 1 ? "is one training" : `are ${spoken(lost.length)} trainings`}: ${CONTROLS[key].label} ${lost.map(name).join(", ")}.` : "";
  if (rows.length < 2) return { verdict: "Fewer than two settings of this sweep could be trained, so there is nothing to compare.", details: left.trim() };
  const [a, b] = [rows[0], rows.at(-1)];
  const [trace, gap] = [traceChange(a.results, b.results), gapChange(a.results, b.results)];
  const moved = (change) => ["fell", "did not move for certain,", "rose"][1 + sign(change)];
  const from = (of, digits) => `${format(of(a.results), digits)} → ${format(of(b.results), digits)}`;
  const [traces, gaps] = [from((r) => r.trace, 2), from((r) => r.gap.value, 2)];
  const across = `${SHORT[a.settings.world]}, seed ${a.settings.seed}: from ${CONTROLS[key].label} ${format(a.settings[key])} to ${format(b.settings[key])} the trace`;
  const { all, told, flatter } = pairsOf(rows);
  const at = `At seed ${a.settings.seed},`;
  const counted = all === 1 ? `${at} the one pair of settings ${told ? `can be told apart, and in it the flatter has the ${flatter ? "smaller" : "larger"} gap` : "cannot be told apart"}`
    : told ? `${at} ${told} of ${all} pairs of settings can be told apart, and in ${flatter} of them the flatter has the smaller gap` : `${at} none of ${all} pairs of settings can be told apart`;
  const conclusion = trace === null ? `${across} is not positive in every network, so flatness cannot be compared.`
    : sign(trace) === 0 ? `${across} moved ${traces}, which is too close to tell, so these two say nothing about flatness.`
    : sign(gap) === 0 ? `${across} ${moved(trace)} ${traces}; the gap, ${gaps}, is too close to tell, so this seed gives no answer.`
    : `${across} ${moved(trace)} ${traces} ${sign(trace) === sign(gap) ? "and" : "while"} the gap ${moved(gap)} ${gaps}, so flatter ${sign(trace) === sign(gap) ? "meant" : "did not mean"} a smaller gap.`;
  const everywhere = [...rows, ...pairs.flat()];
  const unequal = fitUnequally(everywhere);
  const stops = a.settings.stop_loss > 0;
  const over = pairs.length > 1 ? " over all seeds" : "";
  const fits = unequal && !stops ? ` But they fit unequally: training losses at the end run from ${format(unequal.low, 2)} to ${format(unequal.high, 2)}${over}.` : "";
  const ratio = trace && `trace × ${format(Math.exp(trace.low), 2)} to ${format(Math.exp(trace.high), 2)}, `;
  const epochs = rows.map(({ results }) => results.epochs);
  const losses = everywhere.map(({ results }) => results.train_loss);
  const fit = stops ? ` Each setting stopped when the mean training loss of an epoch fell below ${format(a.settings.stop_loss)}, after ${Math.min(...epochs)} to ${Math.max(...epochs)} epochs; at the end the losses are ${spanOf({ low: Math.min(...losses), high: Math.max(...losses) })}${over}${unequal ? ", more than a factor of 1.5 apart" : ""}.` : "";
  const intervals = ` ${Spoken(a.results.traces.length)} networks of each setting, compared in pairs; 95 % intervals: ${ratio ?? ""}gap ${spanOf(gap)} nats. ${counted} (each pair and each seed at 95 %, not corrected for their number).${pairs.length > 1 && a.settings.world === "digits" ? " All seeds draw from one pool of digits and share its test set." : ""}`;
  const verdict = verdictOf(pairs, asked);
  return { verdict: headline(verdict, between), seeds: pairs.length ? `Seed by seed: ${seedBySeed(verdict)}.` : "", details: `${conclusion}${fits}${intervals}${fit}${left}` };
}

// The same for the newest two runs as they stand in the picture, [line, details].
function newestLine(shown) {
  if (!shown?.before) return ["Does flatter mean a smaller gap?", `Train a second setting to compare two runs, or press a sweep: it compares on ${spoken(SEEDS)} seeds.`];
  const [{ ends: [newest, before], meant, apart }] = shown.seeds;
  if (apart) return [`The newest two runs are not compared: ${apart}.`, `A run is compared with the one before it where both are trained on the same samples. A sweep compares on ${spoken(SEEDS)} seeds.`];
  const line = meant === null ? `The newest two runs: the gap ${["fell", "is too close to tell", "rose"][1 + sign(gapChange(before.results, newest.results))]}, but their traces cannot be told apart, so neither is the flatter.`
    : meant === "same" ? "The newest two runs: no answer, for their gaps cannot be told apart."
    : `The newest two runs: the flatter one has the ${meant} gap.`;
  const unequal = fitUnequally([newest, before]);
  const fits = unequal ? ` But they fit unequally: training losses at the end are ${format(unequal.low, 2)} and ${format(unequal.high, 2)}.` : "";
  return [line, `That is one seed, and ${spoken(newest.results.traces.length)} networks of each setting, compared in pairs at 95 %.${fits} A sweep compares on ${spoken(SEEDS)} seeds.`];
}
