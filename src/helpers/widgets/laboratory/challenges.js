// ---- five challenges -------------------------------------------------------------------------------------------

const learned = (results) => results.test_error <= 0.5 * (1 - 1 / results.classes);

const FAR_ABOVE = 1.5; // of a guess's loss: networks that have not moved from their start lie below

// Why a run is none that bounds could speak of: null, or a sentence's end.
function diverged({ results }) {
  const guess = Math.log(results.classes);
  if (![results.train_loss, results.test_loss, results.trace, results.dispersion].every(Number.isFinite)) return "the run diverged, and its numbers are not finite";
  const against = `with a training loss of ${format(results.train_loss)}, where a uniform guess costs ${format(guess)}`;
  if (results.train_loss > FAR_ABOVE * guess) return `the run diverged, ${against}`;
  return results.train_loss > guess ? `the networks did not learn, ${against}` : null;
}

// Why a run may not stand for its setting, in a sweep or beside another: null, or a sentence's end.
function untrained(entry) {
  const { results, settings } = entry;
  const half = 0.5 * Math.log(results.classes);
  // wrong labels raise the loss of networks that have learned the right ones
  const short = settings?.label_noise > 0 ? "the networks have not fitted the wrong labels" : "the networks are not trained";
  return diverged(entry) ?? (results.train_loss > half
    ? `${short}, with a training loss of ${format(results.train_loss)}, above half of a guess's ${format(2 * half)}` : null);
}

// The same as a sentence for the end of what is said of the run; "" where it stands for its setting.
function standing(results, settings) {
  const unfit = untrained({ results, settings });
  return unfit ? ` This run is compared with no other: ${unfit}.` : "";
}

// Why nothing was at stake: null, or a sentence's end.
function idle({ results, settings }) {
  if (settings.world !== "digits" && settings.toy_noise === 0) return "classes without spread leave nothing to learn by heart: raise the spread of classes";
  if (!(results.dispersion > 0) || !(results.closed_form.sigma > 0)) return "the runs do not differ at all: no noise, nothing to bound";
  return null;
}

// In two dimensions the gap is small before one has begun; so two challenges are for the digits.
const elsewhere = ({ settings }) => (settings.world === "digits" ? null : "in two dimensions that is too easy: take the digits");

// What a challenge says of the newest run among those before it: true, or what is missing. A certificate holds the
// training error itself, so its networks may be as little trained as its noise leaves them.
function judged(challenge, newest, before) {
  const fit = challenge.certifies ? diverged : untrained;
  return fit(newest) ?? idle(newest) ?? (challenge.digits ? elsewhere(newest) : null) ?? challenge.check(newest, before.filter((entry) => (untrained(entry) ?? idle(entry)) === null));
}
const same = (a, b) => Object.keys(a).every((key) => a[key] === b[key]);
// The runs before on the same samples that differ from the newest in one setting, for which `counts` holds.
const partnersOf = (newest, before, counts) => before.filter((entry) => {
  const keys = Object.keys(newest.settings).filter((key) => entry.settings[key] !== newest.settings[key]);
  return keys.length === 1 && counts(keys[0]) && pairable(entry, newest);
});

// Each: what is asked, and a check of the newest run among all: true, or what is missing.
const CHALLENGES = [
  {
    ask: "On the digits, make flatter mean a smaller gap: two runs on the same samples that differ in one control, beyond the error of the difference.",
    digits: true,
    check(newest, history) {
      const partners = partnersOf(newest, history, (key) => key !== "seed");
      if (!partners.length) return "train a second setting that differs in one control and keeps the samples";
      return partners.some((entry) => flatterMeant([entry, newest]) === "smaller") || "here the flatter one has the larger gap, or the two cannot be told apart in trace and in gap";
    },
  },
  {
    ask: "Make the closed form say something: below the loss of a uniform guess, with a test error below half of a guess.",
    check({ results }) {
      if (results.closed_form.value >= Math.log(results.classes)) return `the closed form is ${format(results.closed_form.value)}, a guess costs ${format(Math.log(results.classes))}`;
      return learned(results) || "nothing has been learned, so there is nothing to bound";
    },
  },
  {
    ask: "Find two batch sizes, or two learning rates, all else equal, that fit alike, with training losses within a factor of 1.5, and of which the flatter one still has the larger gap.",
    check(newest, history) {
      const partners = partnersOf(newest, history, (key) => key === "batch_size" || key === "lr");
      if (!partners.length) return "train a second batch size or learning rate";
      const alike = partners.filter((entry) => fitUnequally([entry, newest]) === null);
      if (!alike.length) return "their training losses are too far apart: stop all of them at one training loss";
      return alike.some((entry) => flatterMeant([entry, newest]) === "larger") || "here the flatter one has the smaller gap, or the two cannot be told apart in trace and in gap";
    },
  },
  {
    ask: "On the digits, make the omniscient bound useful: less than twice a gap that is there, without a warning, and less than half of it read off held-out losses.",
    digits: true,
    check({ results }) {
      const { value: gap, standard_error: error } = results.gap;
      if (gap < 2 * error) return "there is no gap to speak of";
      if (!learned(results)) return "nothing has been learned, so there is nothing to bound";
      const good = results.omniscient.filter((row) => row.sigma > 0 && Number.isFinite(row.sigma) && !reasonsOf(row).length && row.penalty < 0.5 * row.value);
      if (!good.length) return "at every λ there is a warning, or the value is mostly penalty";
      const best = good.reduce((a, b) => (b.value < a.value ? b : a));
      return best.value < 2 * gap || `at best it is ${format(best.value)}, at λ = ${format(best.lam)}, and twice the gap is ${format(2 * gap)}`;
    },
  },
  {
    ask: "Get a certificate from training data alone: training error plus the Langevin bound below 30 %.",
    certifies: true,
    check({ results }) {
      if (!results.langevin) return "without noise in the training there is no such bound";
      const total = results.train_error + results.langevin.value;
      return total < 0.3 || `now it is ${percent(total)}`;
    },
  },
];

// The list of them in the page: judge(history) after each run that stands, aside() where the newest does not.
function makeChallenges() {
  const solved = new Set();
  const nodes = CHALLENGES.map(({ ask: text }) => make("li", {}, make("span", { class: "lab-tick", "aria-hidden": "true" }, "○"), ` ${text} `, make("em", {})));
  return {
    nodes,
    judge(history) {
      nodes.forEach((node, i) => {
        const outcome = judged(CHALLENGES[i], history.at(-1), history.slice(0, -1));
        if (outcome === true) solved.add(i);
        node.lastChild.textContent = solved.has(i) ? "" : `(${outcome})`;
        node.firstChild.textContent = solved.has(i) ? "●" : "○";
        node.classList.toggle("lab-solved", solved.has(i));
      });
    },
    aside() { nodes.forEach((node, i) => { if (!solved.has(i)) node.lastChild.textContent = "(this run is not whole, so it is not judged)"; }); },
  };
}
