// ---- the sweep: one setting after another, what was expected of it, and what came of it -----------------------------------------------

const SWEEPS = {
  batch_size: (settings) => [2, 5, 10, 20, 50, 100, 200].filter((b) => b <= settings.n),
  lr: () => [0.01, 0.03, 0.1, 0.3, 0.6],
};

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

// Does flatter mean a smaller gap? {verdict, details}, sentences made from the rows of a sweep over the setting `key`;
// `lost` are the settings that gave no row, {value, why}.
function answerOf(rows, lost, key) {
  const left = lost.length ? ` Left out: ${CONTROLS[key].label} ${lost.map(({ value, why }) => `${format(value)} (${why})`).join(", ")}.` : "";
  if (rows.length < 2) return { verdict: "Fewer than two settings of this sweep could be trained, so there is nothing to compare.", details: left.trim() };
  const [a, b] = [rows[0], rows.at(-1)];
  const [trace, gap] = [traceChange(a.results, b.results), gapChange(a.results, b.results)];
  const moved = (change) => ["fell", "did not move for certain,", "rose"][1 + sign(change)];
  const from = (of, digits) => `${format(of(a.results), digits)} → ${format(of(b.results), digits)}`;
  const [traces, gaps] = [from((r) => r.trace, 2), from((r) => r.gap.value, 2)];
  const across = `${SHORT[a.settings.world]}: from ${CONTROLS[key].label} ${format(a.settings[key])} to ${format(b.settings[key])} the trace`;
  const { all, told, flatter } = pairsOf(rows);
  const counted = told ? `Of ${all} pairs of settings ${told} can be told apart, and in ${flatter} of them the flatter has the smaller gap` : `None of ${all} pairs of settings can be told apart`;
  const conclusion = trace === null ? `${across} is not positive in every run, so flatness cannot be compared.`
    : sign(trace) === 0 ? `${across} moved ${traces}, which is too close to tell, so these two say nothing about flatness. ${counted}.`
    : sign(gap) === 0 ? `${across} ${moved(trace)} ${traces}; the gap, ${gaps}, is too close to tell: no answer from this sweep.`
    : `${across} ${moved(trace)} ${traces} ${sign(trace) === sign(gap) ? "and" : "while"} the gap ${moved(gap)} ${gaps}: flatter ${sign(trace) === sign(gap) ? "meant" : "did not mean"} a smaller gap.`;
  const unequal = fitUnequally(rows);
  const stops = a.settings.stop_loss > 0;
  const verdict = unequal ? `${conclusion} But they fit unequally: training losses at the end run from ${format(unequal.low, 2)} to ${format(unequal.high, 2)}.` : conclusion;
  const span = ({ low, high }) => `${format(low, 2)} to ${format(high, 2)}`;
  const ratio = trace && `trace × ${format(Math.exp(trace.low), 2)} to ${format(Math.exp(trace.high), 2)}, `;
  const epochs = rows.map(({ results }) => results.epochs);
  const fit = stops ? ` Each setting stopped when the mean training loss of an epoch fell below ${format(a.settings.stop_loss)}, after ${Math.min(...epochs)} to ${Math.max(...epochs)} epochs.` : "";
  const name = nameOf(a.settings, key);
  const pairs = `${counted} (each pair at 95 %, not corrected for their number).`;
  return { verdict, details: `${name[0].toUpperCase()}${name.slice(1)}; four runs, compared in pairs; 95 % intervals: ${ratio ?? ""}gap ${span(gap)} nats. ${pairs}${fit}${left}` };
}

// ---- what a reader expects

const SKIP = { skip: ["Skip", "Escape"] };
// A question's answers, each with its button and its key, and how what was said and what came of it are told.
const OF_A_RUN = {
  answers: { rises: ["↑ rise", "ArrowUp"], stays: ["= stay", "="], falls: ["↓ fall", "ArrowDown"], ...SKIP },
  told: (said, truth) => `You said that the gap ${said}; it ${{ rises: "rose", stays: "stayed, as far as can be told", falls: "fell" }[truth]}.`,
};
const OF_A_SWEEP = {
  answers: { smaller: ["↓ a smaller gap", "ArrowDown"], same: ["= no clear difference", "="], larger: ["↑ a larger gap", "ArrowUp"], ...SKIP },
  told(said, truth) {
    const words = { smaller: "a smaller gap", same: "no clear difference in the gap", larger: "a larger gap" };
    return `For the flatter networks you expected ${words[said]}, and there is ${words[truth]}.`;
  },
};

// Asks what is expected: one click or one key. `heard` gets the word, or null for a skip.
function makeAsker(uid, { answers }) {
  let [heard, back] = [null, null];
  const question = make("span", { id: `${uid}-question` });
  const tell = (word) => {
    node.hidden = true;
    back?.focus();
    heard(word === "skip" ? null : word);
  };
  const buttons = Object.entries(answers).map(([word, [text, key]]) => button(text, () => tell(word), { "aria-keyshortcuts": key }));
  const node = make("div", { class: "lab-ask", role: "group", "aria-labelledby": question.id, hidden: "" }, question, ...buttons);
  node.addEventListener("keydown", (event) => {
    const found = Object.entries(answers).find(([, [, key]]) => key === event.key);
    if (!found) return;
    event.preventDefault();
    tell(found[0]);
  });
  return {
    node,
    ask(text, from, then) {
      [heard, back] = [then, from];
      question.textContent = text;
      node.hidden = false;
      buttons[0].focus({ preventScroll: true });
    },
    close() { node.hidden = true; },
  };
}

// The score of all predictions so far, in words.
function makeScore() {
  let [right, all] = [0, 0];
  return ({ told }, said, truth) => {
    all += 1;
    right += said === truth ? 1 : 0;
    return `${told(said, truth)} Right in ${right} of ${all} so far.`;
  };
}

// ---- the sweep as it runs

// Trains one setting after another, answers, and comes home to where it began. What it needs of the laboratory: now() and
// put(settings), train() for what was put, begins(key) and judged(said, meant) for the page around it; `meant` is null where
// an end was lost or neither is the flatter.
function makeSweeper(uid, lab) {
  let sweep = null;
  const asks = checkbox(`${uid}-asks`, "ask me before a sweep", true);
  const asker = makeAsker(`${uid}-sweep`, OF_A_SWEEP);
  const answer = make("output", { class: "lab-answer", "aria-live": "polite" }, make("strong", {}, "Does flatter mean a smaller gap?"), " ", make("span", {}, "A sweep answers here."));
  const say = (strong, rest) => { [answer.firstChild.textContent, answer.lastChild.textContent] = [strong, rest]; };
  const again = button("Sweep again, all to one training loss", () => {
    lab.put(sane({ ...lab.now(), ...STOP_AT_LOSS }));
    begin(again.dataset.key, false);
  }, { hidden: "" });
  const label = (key) => `${sweep?.key === key ? "Stop the sweep of" : "Sweep"} the ${CONTROLS[key].label}`;
  const buttons = Object.keys(SWEEPS).map((key) => button(label(key), () => press(key), key === "batch_size" ? { class: "lab-main" } : {}));

  function press(key) {
    const going = sweep?.key;
    leave();
    if (going === key) lab.train(); // stopped
    else begin(key, asks.input.checked);
  }
  function begin(key, asked) {
    again.hidden = true;
    asker.close();
    const [values, from] = [SWEEPS[key](lab.now()), buttons[Object.keys(SWEEPS).indexOf(key)]];
    const start = (said) => {
      lab.begins(key);
      sweep = { key, said, home: lab.now(), left: [...values], ends: [values[0], values.at(-1)], count: values.length, rows: [], lost: [] };
      advance();
    };
    if (asked) asker.ask(`Of ${CONTROLS[key].label} ${values[0]} and ${values.at(-1)}, the one whose networks are flatter will have`, from, start);
    else start(null);
  }
  function advance() { // to the next setting, or to the answer
    if (!sweep) return;
    const { key, said, home, left, count, rows, lost } = sweep;
    answer.setAttribute("aria-busy", left.length > 0);
    if (left.length) {
      lab.put(sane({ ...lab.now(), [key]: left.shift() }));
      say("Sweeping:", `${CONTROLS[key].label} ${format(lab.now()[key])}, ${count - left.length} of ${count}.`);
    } else {
      const { verdict, details } = answerOf(rows, lost, key);
      say(verdict, details);
      const whole = rows.length > 1 && rows[0].settings[key] === sweep.ends[0] && rows.at(-1).settings[key] === sweep.ends[1];
      if (said) lab.judged(said, whole ? flatterMeant(rows) : null);
      sweep = null;
      lab.put(home);
      again.hidden = home.stop_loss > 0 || home.temperature > 0 || rows.length < 2 || fitUnequally(rows) === null;
      again.dataset.key = key;
    }
    lab.train();
  }
  function leave() {
    asker.close();
    answer.setAttribute("aria-busy", "false");
    if (!sweep) return;
    say("The sweep was left", `after ${sweep.rows.length} of ${sweep.count} settings.`);
    lab.put(sweep.home);
    sweep = null;
  }
  function lose(settings, why) { sweep?.lost.push({ value: settings[sweep.key], why }); }
  function take(entry) { // a finished run; one that may not stand for its setting is lost
    const unfit = untrained(entry);
    if (unfit) lose(entry.settings, unfit);
    else sweep?.rows.push(entry);
  }
  return {
    nodes: [make("div", { class: "lab-row lab-sweeps" }, ...buttons, asks.node), asker.node, answer, again],
    going: () => sweep !== null,
    name() { buttons.forEach((node, i) => write(node, label(Object.keys(SWEEPS)[i]))); },
    advance, leave, lose, take,
  };
}
