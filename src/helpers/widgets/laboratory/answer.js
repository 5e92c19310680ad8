// ---- the answer of a sweep: trace and gap compared in pairs, and what may be said of them ---------------------------------------------

// 97.5 % quantile of Student's t: Cornish and Fisher's expansion around the normal one, right to 0.003 from 3 degrees of freedom on.
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

// What flatter came with from the first setting to the last: "smaller", "larger", or "same" where the gap did not move; null
// where the trace did not, so that neither is the flatter.
function flatterMeant(rows) {
  const [a, b] = [rows[0].results, rows.at(-1).results];
  const trace = traceChange(a, b);
  return trace === null || sign(trace) === 0 ? null : ["larger", "same", "smaller"][1 + sign(trace) * sign(gapChange(a, b))];
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

const NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const spoken = (n) => NUMBERS[n] ?? String(n);
const Spoken = (n) => spoken(n)[0].toUpperCase() + spoken(n).slice(1);

// What flatter came with over seeds, {larger, smaller, open}: `pairs` are the two ends of a sweep, [a, b], one pair a seed.
function countedOver(pairs) {
  const meant = pairs.map(flatterMeant);
  const of = (word) => meant.filter((one) => one === word).length;
  return { larger: of("larger"), smaller: of("smaller"), open: meant.length - of("larger") - of("smaller") };
}

// The one line: in how many of the seeds that were trained the flatter networks have the larger gap, or the smaller, or neither.
// `asked` is how many seeds were to be trained, where those that gave no pair are to be named.
function headline(pairs, asked = pairs.length) {
  const { larger, smaller, open } = countedOver(pairs);
  const all = pairs.length;
  const missing = asked - all;
  const lost = missing ? ` ${Spoken(missing)} ${missing === 1 ? "seed is" : "seeds are"} left out.` : "";
  const seeds = all === 1 ? "one seed" : `${spoken(all)} seeds`;
  if (!all) return "No answer: the two ends were not both trained.";
  if (!larger && !smaller) return `No answer from ${seeds}: an interval reaches zero, so trace or gap cannot be told apart.${lost}`;
  const rest = `${open ? ` In ${spoken(open)} there is no answer.` : ""}${lost}`;
  if (larger && smaller) return `Of ${seeds}, the flatter networks have the larger gap in ${spoken(larger)} and the smaller gap in ${spoken(smaller)}.${rest}`;
  return `${Spoken(larger + smaller)} of ${seeds}: the flatter networks have the ${larger ? "larger" : "smaller"} gap.${rest}`;
}

// What a reader's prediction is held to: null where no seed could tell which end is the flatter.
function meantOver(pairs) {
  const { larger, smaller } = countedOver(pairs);
  if (larger && !smaller) return "larger";
  if (smaller && !larger) return "smaller";
  return pairs.some((pair) => flatterMeant(pair) !== null) ? "same" : null;
}

// Does flatter mean a smaller gap? {verdict, details}: the one line over the seeds, and sentences on the rows of the sweep
// over the setting `key` at its first seed; `lost` are the settings that gave no row, {value, seed, why}.
function answerOf(rows, lost, key, pairs, asked = pairs.length) {
  const name = ({ value, seed, why }) => `${format(value)}${seed === undefined ? "" : `, seed ${seed}`} (${why})`;
  const left = lost.length ? ` Left out: ${CONTROLS[key].label} ${lost.map(name).join(", ")}.` : "";
  if (rows.length < 2) return { verdict: "Fewer than two settings of this sweep could be trained, so there is nothing to compare.", details: left.trim() };
  const [a, b] = [rows[0], rows.at(-1)];
  const [trace, gap] = [traceChange(a.results, b.results), gapChange(a.results, b.results)];
  const moved = (change) => ["fell", "did not move for certain,", "rose"][1 + sign(change)];
  const from = (of, digits) => `${format(of(a.results), digits)} → ${format(of(b.results), digits)}`;
  const [traces, gaps] = [from((r) => r.trace, 2), from((r) => r.gap.value, 2)];
  const across = `${SHORT[a.settings.world]}, seed ${a.settings.seed}: from ${CONTROLS[key].label} ${format(a.settings[key])} to ${format(b.settings[key])} the trace`;
  const { all, told, flatter } = pairsOf(rows);
  const counted = told ? `Of ${all} pairs of settings ${told} can be told apart, and in ${flatter} of them the flatter has the smaller gap` : `None of ${all} pairs of settings can be told apart`;
  const conclusion = trace === null ? `${across} is not positive in every run, so flatness cannot be compared.`
    : sign(trace) === 0 ? `${across} moved ${traces}, which is too close to tell, so these two say nothing about flatness.`
    : sign(gap) === 0 ? `${across} ${moved(trace)} ${traces}; the gap, ${gaps}, is too close to tell: no answer from this seed.`
    : `${across} ${moved(trace)} ${traces} ${sign(trace) === sign(gap) ? "and" : "while"} the gap ${moved(gap)} ${gaps}: flatter ${sign(trace) === sign(gap) ? "meant" : "did not mean"} a smaller gap.`;
  const unequal = fitUnequally(rows);
  const stops = a.settings.stop_loss > 0;
  const fits = unequal ? ` But they fit unequally: training losses at the end run from ${format(unequal.low, 2)} to ${format(unequal.high, 2)}.` : "";
  const span = ({ low, high }) => `${format(low, 2)} to ${format(high, 2)}`;
  const ratio = trace && `trace × ${format(Math.exp(trace.low), 2)} to ${format(Math.exp(trace.high), 2)}, `;
  const epochs = rows.map(({ results }) => results.epochs);
  const fit = stops ? ` Each setting stopped when the mean training loss of an epoch fell below ${format(a.settings.stop_loss)}, after ${Math.min(...epochs)} to ${Math.max(...epochs)} epochs.` : "";
  const intervals = ` Four runs, compared in pairs; 95 % intervals: ${ratio ?? ""}gap ${span(gap)} nats. ${counted} (each pair and each seed at 95 %, not corrected for their number).${pairs.length > 1 && a.settings.world === "digits" ? " All seeds draw from one pool of digits and share its test set." : ""}`;
  return { verdict: headline(pairs, asked), details: `${conclusion}${fits}${intervals}${fit}${left}` };
}

// The same for the newest two runs as they stand in the picture, [line, details].
function newestLine(shown) {
  if (!shown?.before) return ["Does flatter mean a smaller gap?", "Train a second setting to compare two runs, or press a sweep: it compares on five seeds."];
  const [{ ends: [newest, before], meant }] = shown.seeds;
  const unfit = untrained(newest) ?? untrained(before);
  const line = unfit ? `The newest two runs are not compared: ${unfit}.`
    : meant === undefined ? "The newest two runs have other samples, so they are not compared."
    : meant === null ? "The newest two runs: no answer, for their traces cannot be told apart."
    : meant === "same" ? "The newest two runs: no answer, for their gaps cannot be told apart."
    : `The newest two runs: the flatter one has the ${meant} gap.`;
  const unequal = fitUnequally([newest, before]);
  const fits = unequal ? ` But they fit unequally: training losses at the end are ${format(unequal.low, 2)} and ${format(unequal.high, 2)}.` : "";
  return [line, `That is one seed, and four runs of each setting, compared in pairs at 95 %.${fits} A sweep compares on five seeds.`];
}
