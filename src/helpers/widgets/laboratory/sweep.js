// ---- the sweep: one setting after another, what was expected of it, and what came of it -----------------------------------------------

const SEEDS = 5; // the whole sweep on the first of them, its two ends on the others
const SWEEPS = {
  batch_size: (settings) => [2, 5, 10, 20, 50, 100, 200].filter((b) => b <= settings.n),
  lr: () => [0.01, 0.03, 0.1, 0.3, 0.6],
};

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

// Trains one setting after another at the seed of the page, then both ends at seeds after it; answers after each seed, and
// comes home to where it began. What it needs of the laboratory: now() and put(settings), train() for what was put,
// begins(key), shows(key, pairs) for the picture, and judged(said, meant); `meant` is null where no seed could tell which
// end is the flatter.
function makeSweeper(uid, lab) {
  let sweep = null;
  const asks = checkbox(`${uid}-asks`, "ask me before a sweep", true);
  const asker = makeAsker(`${uid}-sweep`, OF_A_SWEEP);
  const verdict = make("strong", {}, "Does flatter mean a smaller gap?");
  const details = make("p", { class: "lab-details" }, "A sweep trains one setting after another, then its two ends on four more seeds, and answers above.");
  const answer = make("output", { class: "lab-answer", "aria-live": "polite" }, verdict);
  const say = (strong, rest) => { write(verdict, strong); write(details, rest); };
  const again = button("Sweep again, all to one training loss", () => {
    lab.put(sane({ ...lab.now(), ...STOP_AT_LOSS }));
    begin(again.dataset.key, false);
  }, { class: "lab-again", hidden: "" });
  const label = (key) => (sweep?.key === key ? "Stop the sweep" : `Sweep the ${CONTROLS[key].label}`);
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
    const ends = [values[0], values.at(-1)];
    const start = (said) => {
      lab.begins(key);
      answer.setAttribute("aria-live", "polite");
      const home = lab.now();
      const seeds = Array.from({ length: SEEDS }, (_, i) => (home.seed + i) % 2 ** 32);
      const left = [...values.map((value) => [value, home.seed]), ...seeds.slice(1).flatMap((seed) => ends.map((value) => [value, seed]))];
      sweep = { key, said, home, left, ends, seeds, values, count: left.length, entries: [], lost: [] };
      advance();
    };
    if (asked) asker.ask(`Of ${CONTROLS[key].label} ${ends[0]} and ${ends[1]}, the one whose networks are flatter will have`, from, start);
    else start(null);
  }
  const rows = () => sweep.entries.filter(({ settings }) => settings.seed === sweep.home.seed);
  const pairs = () => sweep.seeds.map((seed) => sweep.ends.map((end) => sweep.entries.find(({ settings }) => settings.seed === seed && settings[sweep.key] === end)))
    .filter((pair) => pair.every(Boolean));
  const lost = () => sweep.lost.map(({ value, seed, why }) => ({ value, why, ...(seed === sweep.home.seed ? {} : { seed }) }));
  const answered = (asked) => answerOf(rows(), lost(), sweep.key, pairs(), asked);
  function advance() { // to the next setting, or to the answer
    if (!sweep) return;
    const { key, said, home, left, count, seeds, values } = sweep;
    answer.setAttribute("aria-busy", left.length > 0);
    if (left.length) {
      const [value, seed] = left.shift();
      lab.put(sane({ ...lab.now(), [key]: value, seed }));
      const at = `${CONTROLS[key].label} ${format(value)}, seed ${seed}: run ${count - left.length} of ${count}.`;
      const done = Math.max(count - left.length - 1 - values.length, 0) / 2 + 1;
      if (count - left.length <= values.length) say("Sweeping:", at);
      else say(`So far: ${headline(pairs())}`, `${Math.floor(done)} of ${seeds.length} seeds are trained. Sweeping: ${at}`);
    } else {
      const found = answered(seeds.length);
      say(found.verdict, found.details);
      if (said) lab.judged(said, meantOver(pairs()));
      again.hidden = home.stop_loss > 0 || home.temperature > 0 || rows().length < 2 || fitUnequally(rows()) === null;
      again.dataset.key = key;
      sweep = null;
      lab.put(home);
    }
    lab.train();
  }
  function leave() {
    asker.close();
    answer.setAttribute("aria-busy", "false");
    if (!sweep) return;
    const words = `after ${sweep.count - sweep.left.length - 1} of ${sweep.count} runs.`;
    if (pairs().length) say(answered().verdict, `The sweep was left ${words} ${answered().details}`);
    else say("The sweep was left", words);
    lab.put(sweep.home);
    sweep = null;
  }
  function lose(settings, why) { sweep?.lost.push({ value: settings[sweep.key], seed: settings.seed, why }); }
  function take(entry) { // a finished run; one that may not stand for its setting is lost
    if (!sweep) return;
    const unfit = untrained(entry);
    if (unfit) lose(entry.settings, unfit);
    else sweep.entries.push(entry);
    lab.shows(sweep.key, pairs());
  }
  return {
    buttons, asks: asks.node, asker: asker.node, answer, details, again,
    going: () => sweep !== null,
    name() { buttons.forEach((node, i) => write(node, label(Object.keys(SWEEPS)[i]))); },
    compares([strong, rest]) { // the newest two runs, of which the page's status speaks already
      answer.setAttribute("aria-live", "off");
      say(strong, rest);
    },
    advance, leave, lose, take,
  };
}
