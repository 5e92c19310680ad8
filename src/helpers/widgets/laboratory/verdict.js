// ---- the verdict: what a sweep says over its seeds. The headline, a bet and the picture are all read from it -------------------------

const FEWEST = 3; // seeds that an interval over seeds needs: most of those of a sweep

const NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const spoken = (n) => NUMBERS[n] ?? String(n);
const Spoken = (n) => spoken(n)[0].toUpperCase() + spoken(n).slice(1);

// The paired difference of two settings on the same samples, gap of the flatter less gap of the other, with its interval:
// {trace, over, known}. `known` is whether the traces can be told apart; where not, the flatter is the one by the estimate
// alone, and the difference is drawn but not counted. `over` is null where a trace is not positive.
function difference(pair) {
  const [a, b] = pair.map(({ results }) => results);
  const trace = traceChange(a, b);
  if (trace === null) return { trace, over: null, known: false };
  return { trace, over: trace.value > 0 ? gapChange(b, a) : gapChange(a, b), known: sign(trace) !== 0 };
}

// What flatter came with in each pair: "larger", "smaller", or "same" where the gaps cannot be told apart; null where the
// traces cannot, so that neither is the flatter.
const meantBy = ({ over, known }) => (known ? ["smaller", "same", "larger"][1 + sign(over)] : null);
const flatterMeant = (rows) => meantBy(difference([rows[0], rows.at(-1)]));

// Mean of the difference over the seeds that know which end is the flatter, with its 95 % interval: over seeds and, for
// they may share a test set, over examples. null where the seeds are too few.
function overSeeds(pairs) {
  const known = pairs.map((pair) => [pair, difference(pair)]).filter(([, one]) => one.known);
  if (known.length < FEWEST) return null;
  const examples = known.map(([[a, b], { trace }]) => Array.from(a.results.test_losses, (v, j) => sign(trace) * (v - b.results.test_losses[j])));
  return interval(known.map(([, { over }]) => over.value), examples[0].map((_, j) => average(examples.map((row) => row[j]))));
}

// {state, why, all, larger, smaller, open, missing, seeds} of the two ends of a sweep, one pair a seed. The state is "larger"
// or "smaller" where the interval over seeds leaves zero out and no seed says the contrary; "same" where it does not and no
// seed alone tells the gaps apart; else "open", and `why` says what is missing. `asked` is how many seeds were to be trained.
function verdictOf(pairs, asked = pairs.length) {
  const meant = pairs.map(flatterMeant);
  const count = (word) => meant.filter((one) => one === word).length;
  const [larger, smaller, all] = [count("larger"), count("smaller"), overSeeds(pairs)];
  const way = all && ["smaller", "same", "larger"][1 + sign(all)];
  const contrary = { larger: smaller, smaller: larger, same: larger + smaller }[way];
  const counts = { all, larger, smaller, known: meant.filter((one) => one !== null).length, seeds: pairs.length };
  const state = way && contrary === 0 ? way : "open";
  return { ...counts, state, why: state === "open" ? openBecause(counts) : "", open: pairs.length - larger - smaller, missing: asked - pairs.length };
}

// What each seed says alone: "larger in three of five seeds, no answer in two".
function seedBySeed({ larger, smaller, open, missing, seeds }) {
  const of = seeds === 1 ? "one seed" : `${spoken(seeds)} seeds`;
  const parts = [[larger, "larger in"], [smaller, "smaller in"], [open, "no answer in"]].filter(([count]) => count > 0)
    .map(([count, words], i) => `${words} ${spoken(count)}${i ? "" : ` of ${of}`}`);
  return `${parts.join(", ")}${missing > 0 ? `, ${spoken(missing)} left out` : ""}`;
}

const spanOf = ({ low, high }) => `${format(low, 2)} to ${format(high, 2)}`;

// Why there is none, in words, where the verdict is open.
function openBecause({ all, larger, smaller, known, seeds }) {
  if (!seeds) return "the two ends were not both trained";
  if (larger && smaller) return "the seeds contradict each other";
  if (known < FEWEST) return `${known ? "only " : ""}${spoken(known)} of ${spoken(seeds)} ${seeds === 1 ? "seed" : "seeds"} ${known === 1 ? "tells" : "tell"} which end is the flatter, and ${spoken(FEWEST)} are needed`;
  if (sign(all) !== 0) return "a seed says the contrary of all seeds together";
  return `${spoken(larger + smaller)} of ${spoken(seeds)} seeds ${larger + smaller === 1 ? "tells its" : "tell their"} gaps apart, but the interval over all seeds, ${spanOf(all)} nats, holds zero`;
}

// What two settings are judged in place of the two that were asked of, in words; "" where they are the same.
function inPlaceOf(key, asked, judged) {
  const away = asked.filter((value, i) => value !== judged[i]);
  return away.length ? `between ${CONTROLS[key].label} ${format(judged[0])} and ${format(judged[1])}, for ${away.map((v) => format(v)).join(" and ")} did not train` : "";
}

// The one line above the picture; `between` says which settings are judged where others were asked of.
function headline({ state, why, all, seeds }, between = "") {
  const [after, aside] = between ? [`, ${between}`, ` This is ${between}.`] : ["", ""];
  if (!seeds) return "No answer: the two ends were not both trained.";
  if (state === "open") return `Undecided: ${why}.${aside}`;
  if (state === "same") return `No clear difference in the gap: flatter less sharper is ${spanOf(all)} nats at 95 %, which holds zero.${aside}`;
  return `The flatter networks have the ${state} gap, by ${format(Math.abs(all.value), 2)} nats (${spanOf(all)} at 95 %)${after}.`;
}

// ---- bets

// What a bet is worth against what came of it: true, false, or null where that is undecided. "Too close to tell" is a bet
// on that; a bet on one side is neither right nor wrong where it is too close to tell.
function worth({ tie }, said, state) {
  if (state === said) return state !== "open";
  return state === "open" || state === tie ? null : false;
}

// The score of all bets so far, in words. `why` says why it is undecided, where it is; `between` what is judged, where that is
// not what was asked.
function makeScore() {
  let [right, all] = [0, 0];
  return (question, said, { state, why, between }) => {
    const judgement = worth(question, said, state);
    if (judgement !== null) all += 1;
    if (judgement) right += 1;
    const score = all ? ` The score stays at ${right} of ${all}.` : "";
    const expected = `${question.expected(said)}${between ? ` It is judged ${between}.` : ""}`;
    if (judgement === null) return `${expected} Your bet stays open, neither right nor wrong: ${why}.${score}`;
    return `${expected} ${question.came(state)} ${judgement ? "Right" : "Wrong"}; ${right} of ${all} right so far.`;
  };
}

// What a bet on a sweep is held to: the verdict that the headline tells.
function outcomeOfSweep({ state, why, seeds, known, larger, smaller }, between = "") {
  const untold = seeds && known >= FEWEST && !(larger && smaller) ? `${why}, and “no clear difference” counts only where no seed tells its gaps apart` : why;
  return { state, between, why: state === "same" ? "the difference of the gaps is too small to tell its sign" : untold };
}

// What a bet on one run against the run before is held to: the paired difference that the line on the newest two tells.
function outcomeOfRun(before, newest) {
  const apart = unpaired(newest, before);
  if (apart) return { state: "open", why: `the two runs are not compared (${apart})` };
  return { state: ["falls", "stays", "rises"][1 + sign(gapChange(before.results, newest.results))], why: "the gaps cannot be told apart" };
}

// A bet on one run against the run before it: ask(before, then), close(why) where something else takes its place (what to
// say of that, or ""), judge(entry) once the run is there; where it does not stand, judge(null, why).
function makeBet(uid, from, score) {
  const asks = checkbox(`${uid}-guess`, "predict before I train", false);
  const asker = makeAsker(`${uid}-run`, OF_A_RUN);
  let bet = null;
  return {
    asks: asks.node, node: asker.node, wanted: () => asks.input.checked,
    ask(before, then) {
      asker.ask("Against the run before, the gap will", from, (said) => {
        bet = said && { said, before };
        then();
      });
    },
    close(why) {
      const words = !asker.node.hidden ? `The question was closed and nothing was trained, for ${why}.` : bet ? `Your bet is not scored, for ${why} before the run ended.` : "";
      asker.close();
      bet = null;
      return words;
    },
    judge(entry, why) {
      if (!bet) return "";
      const words = score(OF_A_RUN, bet.said, entry ? outcomeOfRun(bet.before, entry) : { state: "open", why });
      bet = null;
      return words;
    },
  };
}
