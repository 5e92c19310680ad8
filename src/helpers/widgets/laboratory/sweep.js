// ---- the sweep: one setting after another, what was expected of it, and what came of it -----------------------------------------------

const HOW = "A sweep trains one setting after another, then its two ends on four more seeds, and answers above.";
const SEEDS = 5; // the whole sweep on the first of them, its two ends on the others
const SWEEPS = {
  batch_size: (settings) => [2, 5, 10, 20, 50, 100, 200].filter((b) => b <= settings.n),
  lr: () => [0.01, 0.03, 0.1, 0.3, 0.6],
};

// The training loss that a second sweep trains every setting to: so that all may reach it, twice the least that the first one
// ended at, and so low that an epoch moves little; at most half of a guess's, above which networks count as untrained.
function commonLoss(rows) {
  const { classes } = rows[0].results;
  const stops = CONTROLS.stop_loss.stops().filter((v) => v < 0.5 * Math.log(classes));
  const wanted = Math.max(0.03, 2 * Math.min(...rows.map(({ results }) => results.train_loss)));
  return stops.find((v) => v >= wanted) ?? stops.at(-1);
}

// ---- what a reader expects

const SKIP = { skip: ["Skip", "Escape"] };
// A question's answers, each with its button and its key; which of them says that it cannot be told; how a bet and what came
// of it are told.
const OF_A_RUN = {
  tie: "stays",
  answers: { rises: ["↑ rise", "ArrowUp"], stays: ["= be too close to tell", "="], falls: ["↓ fall", "ArrowDown"], ...SKIP },
  expected: (said) => `You expected the gap ${{ rises: "to rise", stays: "to be too close to tell", falls: "to fall" }[said]}.`,
  came: (state) => ({ rises: "It rose.", stays: "It is too close to tell.", falls: "It fell." })[state],
};
const OF_A_SWEEP = {
  tie: "same",
  answers: { smaller: ["↓ a smaller gap", "ArrowDown"], same: ["= no clear difference", "="], larger: ["↑ a larger gap", "ArrowUp"], ...SKIP },
  expected: (said) => `You expected ${{ smaller: "a smaller gap", same: "no clear difference", larger: "a larger gap" }[said]}.`,
  came: (state) => ({ smaller: "It is smaller.", same: "There is none.", larger: "It is larger." })[state],
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
      buttons.at(-1).scrollIntoView({ block: "nearest" });
    },
    close() { node.hidden = true; },
  };
}

// ---- the sweep as it runs

// Trains one setting after another at the seed of the page, then both ends at seeds after it; answers after each seed, and
// comes home to where it began. What it needs of the laboratory: now() and put(settings), train() for what was put, acted()
// when a reader presses a button of it, begins(key, words), with what is to be said of a sweep whose place it takes,
// shows(key, pairs) for the picture, ended(words) where a sweep was stopped, and judged(said, outcome).
function makeSweeper(uid, lab) {
  let sweep = null;
  const is = (next) => { // a button is named in the turn in which what it does changes
    sweep = next;
    buttons.forEach((node, i) => write(node, label(Object.keys(SWEEPS)[i])));
  };
  const asks = checkbox(`${uid}-asks`, "ask me before a sweep", true);
  const asker = makeAsker(`${uid}-sweep`, OF_A_SWEEP);
  const verdict = make("strong", {}, "Does flatter mean a smaller gap?");
  const rest = make("span", { class: "lab-rest" });
  const details = make("p", { class: "lab-details" }, HOW);
  const answer = make("output", { class: "lab-answer", "aria-live": "polite" }, verdict, rest);
  const progress = makeProgress("the sweep", "No sweep is running.");
  const say = (strong, more, small = "") => {
    write(verdict, strong);
    write(rest, small);
    write(details, more);
  };
  const again = button("Sweep again, all to one training loss", () => {
    lab.acted();
    begin(again.dataset.key, { stop_loss: Number(again.dataset.loss), epochs: MOST_EPOCHS });
  }, { class: "lab-again", hidden: "" });
  const label = (key) => (sweep?.key === key ? "Stop the sweep" : `Sweep the ${CONTROLS[key].label}`);
  const buttons = Object.keys(SWEEPS).map((key) => button(label(key), () => press(key), { id: `${uid}-sweep-${key}`, class: key === "batch_size" && "lab-main" }));

  function press(key) {
    const going = sweep?.key;
    lab.acted();
    const words = leave(going === key ? "you stopped it" : "you asked for another");
    if (going) lab.ended(words);
    if (going === key) lab.train();
    else begin(key, {}, going ? words : "");
  }
  function offers(loss, key) { // to sweep again, all to this loss; null for what stands there else
    again.hidden = loss === null;
    progress.node.hidden = !again.hidden;
    if (again.hidden) return;
    Object.assign(again.dataset, { key, loss });
    write(again, `Sweep again, all to one training loss: ${format(loss)}`);
  }
  // Asks, where asking is wanted, and begins; `part` is what this sweep sets besides, `words` what is said of the one before.
  function begin(key, part = {}, words = "") {
    offers(null);
    asker.close();
    const aims = sane({ ...lab.now(), ...part });
    const values = SWEEPS[key](aims);
    const start = (said) => {
      lab.put(aims);
      lab.begins(key, words);
      answer.setAttribute("aria-live", "polite");
      const seeds = Array.from({ length: SEEDS }, (_, i) => (aims.seed + i) % 2 ** 32);
      is({ key, said, home: aims, left: values.map((value) => [value, aims.seed]), ends: null, seeds, values, done: 0, count: values.length + 2 * (SEEDS - 1), entries: [], lost: [] });
      advance();
    };
    const alike = aims.stop_loss > 0 ? `, each trained to a loss of ${format(aims.stop_loss)},` : ",";
    if (asks.input.checked) {
      const from = buttons[Object.keys(SWEEPS).indexOf(key)];
      asker.ask(`Of ${CONTROLS[key].label} ${values[0]} and ${values.at(-1)}${alike} the one whose networks are flatter will have`, from, start);
    }
    else start(null);
  }
  const rows = () => sweep.entries.filter(({ settings }) => settings.seed === sweep.home.seed);
  const pairs = () => (!sweep.ends ? [] : sweep.seeds.map((seed) => sweep.ends.map((end) => sweep.entries.find(({ settings }) => settings.seed === seed && settings[sweep.key] === end)))
    .filter((pair) => pair.every(Boolean)));
  const lost = () => sweep.lost.map(({ value, seed, why }) => ({ value, why, ...(seed === sweep.home.seed ? {} : { seed }) }));
  // The first and the last setting that were trained go on to the other seeds.
  function chooseEnds() {
    const found = rows();
    if (sweep.ends || found.length < 2) return;
    sweep.ends = [found[0], found.at(-1)].map(({ settings }) => settings[sweep.key]);
    sweep.left = sweep.seeds.slice(1).flatMap((seed) => sweep.ends.map((value) => [value, seed]));
    lab.shows(sweep.key, pairs());
  }
  function advance() { // to the next setting, or to the answer
    if (!sweep) return;
    if (!sweep.left.length) chooseEnds();
    const { key, said, home, left, count, seeds } = sweep;
    answer.setAttribute("aria-busy", left.length > 0);
    if (left.length) {
      const [value, seed] = left.shift();
      sweep.done += 1;
      sweep.at = `${CONTROLS[key].label} ${format(value)}, seed ${seed}`;
      lab.put(sane({ ...lab.now(), [key]: value, seed }));
      follow(0);
      if (pairs().length) say(`So far, the gap of the flatter networks is ${seedBySeed(verdictOf(pairs()))}.`, `The sweep goes on: ${sweep.at}.`);
      else say("Sweeping: there is nothing to compare yet.", `${sweep.at}.`);
    } else {
      const between = sweep.ends ? inPlaceOf(key, [sweep.values[0], sweep.values.at(-1)], sweep.ends) : "";
      const found = answerOf(rows(), lost(), key, pairs(), seeds.length, between);
      say(found.verdict, found.details, found.seeds);
      if (said) lab.judged(said, outcomeOfSweep(verdictOf(pairs(), seeds.length), between));
      const short = sweep.done < count; // fewer than two settings could be compared
      progress.at(short ? 0 : 1, short ? `The sweep ended after ${sweep.done} of ${count} trainings.` : `All ${count} trainings are done.`);
      const fit = home.stop_loss > 0 || home.temperature > 0 || rows().length < 2 || fitUnequally(rows()) === null;
      offers(fit ? null : commonLoss(rows()), key);
      is(null);
      lab.put(home);
    }
    lab.train();
  }
  // Ends a sweep or closes a question that something else takes the place of; what to say of that, or "".
  function leave(why) {
    const open = !asker.node.hidden;
    asker.close();
    answer.setAttribute("aria-busy", "false");
    if (!sweep) return open ? `The question was closed and no sweep began, for ${why}.` : "";
    const words = `The sweep of the ${CONTROLS[sweep.key].label} ended after ${sweep.done - 1} of ${sweep.count} trainings, for ${why}.`;
    const found = pairs().length ? ` Until then: ${seedBySeed(verdictOf(pairs()))}.` : "";
    const bet = sweep.said ? " Your bet on it is void." : "";
    say("Does flatter mean a smaller gap?", HOW);
    progress.at(0, "No sweep is running.");
    lab.put(sweep.home);
    is(null);
    return words + found + bet;
  }
  function lose(settings, why) { sweep?.lost.push({ value: settings[sweep.key], seed: settings.seed, why }); }
  function take(entry) { // a finished run; one that may not stand for its setting is lost
    if (!sweep) return;
    const unfit = untrained(entry);
    if (unfit) lose(entry.settings, unfit);
    else sweep.entries.push(entry);
    lab.shows(sweep.key, pairs());
  }
  // How far it is, where `share` of the training that runs is done.
  function follow(share) {
    if (sweep) progress.at((sweep.done - 1 + share) / sweep.count, `Training ${sweep.done} of ${sweep.count}: ${sweep.at}.`);
  }
  return {
    buttons, asks: asks.node, asker: asker.node, answer, details, again, progress: progress.node,
    going: () => sweep !== null,
    home: () => sweep?.home ?? null, // the setting that it comes home to
    parts() { offers(null); }, // its answer's last button goes: a control has moved away from what was swept
    compares([strong, rest]) { // the newest two runs, of which the page's status speaks already
      answer.setAttribute("aria-live", "off");
      if (!sweep) progress.at(0, "No sweep is running.");
      say(strong, rest);
    },
    advance, leave, lose, take, follow,
  };
}
