// ---- the laboratory ----------------------------------------------------------------------------------------------------------------

const FIRST_VIEW = { lam: 2, stretch: 1 };
const ON_PAGE = "This browser allows no worker here, so the networks train on the page itself, in slices.";

function assemble({ model, root }) {
  const uid = `lab-${Math.random().toString(36).slice(2, 9)}`;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const addressed = model.asset ? fromAddress(location.hash) : null;
  let settings = addressed?.settings ?? sane(model.get("settings"));
  const view = { ...FIRST_VIEW };
  if (addressed) Object.assign(view, addressed.view);
  const history = [];
  const score = makeScore();
  let [results, quick, portrait, plane, pixels] = [null, null, null, null, null];
  let [busy, pending, started, drawnAt, picture, addressing] = [false, false, 0, 0, "world", 0];
  let seen = null; // what the picture of the runs was last drawn from; it stays, dimmed, until there is something newer
  let onPage = false; // no worker: trained beside the page
  let [mode, varied] = ["run", "batch_size"];
  let ofSweep = null; // the two ends of the newest sweep, until a control is moved; else the newest two runs are shown
  let answered = false; // whether the line above the picture is a sweep's
  let job = settings; // what is being trained; settings may have moved on meanwhile
  let touched = addressed !== null; // the address of the page is the reader's until a control is moved

  // --- controls
  const controls = makeControls(uid, { now: () => settings, change });
  const train = button("Train", () => press("run"));
  const play = button("Play slowly", () => press(mode === "play" && busy ? "pause" : "play"));
  const single = button("One epoch", () => press("step"));
  const reset = button("Default settings", () => {
    anew();
    acted("you pressed “Default settings”");
    [settings, touched] = [sane({ world: settings.world }), true];
    Object.assign(view, FIRST_VIEW);
    begin("run");
  }, { class: "lab-main" });
  const status = make("output", { class: "lab-status", "aria-live": "polite" });
  const notices = makeNotices();
  const ways = [0, 1].map(() => makeProgress("epochs trained", "Networks train in a moment.")); // beside the buttons above, and those in the fold
  const bet = makeBet(uid, train, score);
  const verdict = make("p", { class: "lab-verdict", role: "status" });
  const sweeper = makeSweeper(uid, {
    now: () => settings,
    put(next) { settings = next; },
    train() { [busy, pending] = [false, false]; begin("run"); },
    acted() { acted("you asked for a sweep", false); },
    begins(key, words) {
      [touched, verdict.textContent, ofSweep, answered] = [true, "", null, true];
      notices.tell({ ended: words });
      charts[0].look(key);
      vary(key);
    },
    shows(key, pairs) { ofSweep = endsOf(key, pairs); },
    ended: (words) => notices.tell({ ended: words }),
    judged(said, outcome) { write(verdict, score(OF_A_SWEEP, said, outcome)); },
  });

  // --- pictures
  const evidence = make("svg", { role: "img", "aria-labelledby": `${uid}-evidence-title ${uid}-evidence-desc` }, ...waiting(`${uid}-evidence`));
  const evidenceKey = make("ul", { class: "lab-legend" });
  const evidenceRows = make("table");
  const bars = make("svg", { role: "img", "aria-labelledby": `${uid}-bars-title ${uid}-bars-desc` }, ...waiting(`${uid}-bars`));
  const barsNote = make("p", { class: "lab-below" });
  const runs = make("svg", { role: "img", "aria-labelledby": `${uid}-runs-title` }, ...waiting(`${uid}-runs`));
  const shown = chooser(`${uid}-picture`, "picture", { world: "the networks", plane: "their weights", losses: "the way down" }, "world", (name) => { picture = name; update("runs"); });
  const looks = makeView(uid, (moved) => {
    touched = true;
    Object.assign(view, moved);
    update("view", "bars", "words", "charts", "table", ...(picture === "plane" ? ["runs"] : []));
    remember();
  });
  const gauge = make("div", { class: "lab-gauge", role: "img", "aria-label": "nothing has been trained yet" });
  const table = make("table");
  const python = make("code");
  const challenges = makeChallenges();
  const charts = [["batch_size", "trace"], ["trace", "gap"]].map(([across, up], i) => makeChart(`${uid}-h${i}`, across, up, () => {
    if (i === 0) vary(charts[0].across);
    update("charts");
  }));
  const legend = make("ul", { class: "lab-legend lab-groups" });
  const clear = button("Clear the history", () => {
    history.length = 0;
    if (!sweeper.going()) { acted("you cleared the history"); answers(newestLine(null)); }
    update("charts", "evidence");
  });

  // --- what happens
  const vary = (key) => { if (Object.hasOwn(CONTROLS, key)) varied = key; };
  function change(part) {
    acted(causeOf(part));
    touched = true;
    const asked = { ...settings, ...part };
    settings = sane(asked);
    refuse(refused(asked));
    if (bet.wanted() && history.length) {
      remember();
      update("view");
      status.textContent = "Press Train, and say first what you expect.";
      notices.tell({ waits: "Nothing trains until you press Train, under “More controls”." });
    } else begin("run");
  }
  function begin(how) {
    remember();
    notices.tell({ trouble: onPage ? ON_PAGE : "", waits: "" });
    update("view");
    if (busy && performance.now() - started < 1500 && how === "run" && mode === "run") { pending = true; return; }
    [busy, pending, started, mode] = [true, false, performance.now(), how];
    [results, quick, portrait, plane] = [null, null, null, null];
    job = settings;
    if (job.world === "digits" && !pixels) digitsReady(); // they may have failed to load before
    trainer.train(job, how);
  }
  function press(how) {
    anew();
    acted({ run: "you pressed “Train”", step: "you pressed “One epoch”" }[how] ?? "you pressed “Play slowly”");
    touched = true;
    const before = history.at(-1);
    if (how === "run" && before && bet.wanted()) {
      bet.ask(before, () => begin("run"));
      return;
    }
    const going = portrait !== null && portrait.epoch > 0 && !(results && isWhole(results));
    if (how !== "run" && going) {
      mode = how;
      busy = how !== "pause";
      results = null;
      trainer.resume(how);
      update("view");
    } else begin(how);
  }
  function anew() { if (!busy) notices.tell({ ended: "" }); } // a second click on the way does not wipe what the first one ended
  const isWhole = ({ reached, epochs }) => reached === true || epochs === job.epochs;

  // A sweep or a question that something else takes the place of is named; one event may be followed by others of the same
  // move, which end nothing and leave those words.
  function acted(why, leaves = true) {
    const ended = [leaves ? sweeper.leave(why) : "", bet.close(why)].filter(Boolean).join(" ");
    if (leaves) [ofSweep, answered] = [null, false];
    sweeper.parts();
    notices.tell({ refused: "", waits: "", ...(ended ? { ended } : {}) });
  }
  function refuse(words) {
    notices.tell({ refused: words });
    model.set("refused", words);
  }

  function finish() {
    busy = false;
    if (isWhole(results) && results.reached !== false) {
      const entry = { settings: { ...job }, results };
      const again = history.findIndex((earlier) => same(earlier.settings, entry.settings));
      if (again >= 0) history.splice(again, 1); // one setting is one run, however often it is trained
      history.push(entry);
      sweeper.take(entry);
      challenges.judge(history);
      if (!answered) answers(newestLine(newestTwo(history)), bet.judge(entry));
      update("charts", "evidence");
    } else {
      sweeper.lose(job, "it never fell to the training loss");
      setAside("the run never fell to the training loss, or has not come to its end");
    }
    if (isWhole(results)) {
      const { test_losses, ...kept } = results;
      model.set("results", { ...kept, losses: results.losses.map((v) => Number(v.toPrecision(6))), settings: { ...job } });
      model.save_changes();
    }
    if (pending) begin("run");
    else sweeper.advance();
  }
  function setAside(why) { // hints of the run before would be read as of this one
    challenges.aside();
    const said = bet.judge(null, why);
    if (said) answers([`The newest run is compared with none, for ${why}.`, "The picture is of the runs before it."], said);
  }
  function answers(line, said = "") { // a bet's verdict stands below the line that it is read from, and goes with it
    sweeper.compares(line);
    write(verdict, said);
  }
  function heard(data) {
    if (data.where === "page") {
      onPage = true;
      notices.tell({ trouble: ON_PAGE });
    }
    if (data.problem || data.broken) {
      acted("the computation stopped");
      busy = false;
      notices.tell({ trouble: data.problem ?? `The computation stopped: ${data.broken}` });
    }
    [portrait, quick, plane] = [data.portrait ?? portrait, data.quick ?? quick, data.plane ?? plane];
    if (data.portrait) update("runs");
    if (data.quick) update("bars");
    if (data.diverged) {
      busy = false;
      setAside("the run diverged");
      status.textContent = `The runs diverged in epoch ${data.diverged}: a weight is no longer finite. Lower the learning rate.`;
      if (pending) begin("run");
      else {
        sweeper.lose(job, "it diverged");
        sweeper.advance();
      }
    }
    if (data.results) {
      [results, quick] = [data.results, null];
      if (mode !== "run") mode = "pause";
      update("bars", "words", "table");
      finish();
    }
    update("view");
  }
  function remember() {
    model.set("settings", { ...settings });
    model.save_changes();
    if (!model.asset || !touched) return;
    clearTimeout(addressing); // browsers slow a page down that changes its address all the time
    addressing = setTimeout(() => window.history.replaceState(null, "", toAddress(sweeper.home() ?? settings, { lam: view.lam, stretch: Number(view.stretch.toPrecision(3)) })), 150);
  }

  // --- what is seen, part by part
  const widths = { runs: 260, bars: 300, evidence: 280, charts: [240, 240] }; // of the boxes that pictures stand in, as last measured
  const ghost = () => { const current = results ?? quick; return current ? (current.closed_form?.sigma ?? 0) * view.stretch * Math.sqrt(current.steps) : null; };
  const update = painter({
    view() {
      controls.follow(settings);
      write(play, mode === "play" && busy ? "Pause" : "Play slowly");
      root.classList.toggle("lab-busy", busy);
      root.classList.toggle("lab-stale", !results && !quick); // what still stands there is of the run before
      const share = progressOf(portrait, job);
      for (const way of ways) way.at(share, wayOf(portrait, job, busy ? history.at(-1)?.results : null));
      sweeper.follow(busy ? share : 0);
      looks.follow(view);
      write(python, asPython(results && !busy ? { ...job, epochs: results.reached === null ? results.epochs : job.epochs } : settings));
    },
    runs() {
      if (calm && busy && performance.now() - drawnAt < 1000 && !results) return;
      drawnAt = performance.now();
      const now = { job, portrait, plane, pixels, ghost: ghost() };
      if (canDraw(picture, now) || !seen || !canDraw(picture, seen)) seen = now;
      display(runs, runsPicture(picture, uid, seen, widths.runs));
      runs.classList.toggle("lab-before", seen !== now);
    },
    bars() {
      const current = results ?? quick;
      if (!current && !history.length) display(bars, emptyBars(uid, CLASSES_OF_ENGINE[job.world], widths.bars, 6));
      if (!current || (calm && busy && !results)) return;
      const columns = columnsOf(current, view.lam, view.stretch);
      display(bars, barsPicture(uid, current, columns, widths.bars));
      write(barsNote, belowTheGap(current, columns));
      drawGauge(gauge, current.omniscient, view.lam);
    },
    words() { if (results && !sweeper.going()) write(status, sentence(results, job, view, columnsOf(results, view.lam, view.stretch)) + standing(results, job)); },
    charts() {
      const groups = groupsOf(history, varied);
      charts.forEach(({ svg, across, up }, i) => display(svg, historyPicture(`${uid}-h${i}`, history, groups, varied,
        ACROSS[across], { ...UP[up], of: (entry) => UP[up].of(entry, view) }, widths.charts[i])));
      patch(legend, { class: "lab-legend lab-groups" }, legendMarks(groups));
      clear.disabled = !history.length && document.activeElement !== clear;
    },
    evidence() {
      const shown = ofSweep ?? newestTwo(history);
      display(evidence, evidencePicture(`${uid}-evidence`, shown, widths.evidence));
      patch(evidenceKey, { class: "lab-legend" }, evidenceLegend(shown));
      patch(evidenceRows, {}, shown ? evidenceTable(shown) : []);
    },
    table() { if (results) patch(table, {}, tableMarks(results, columnsOf(results, view.lam, view.stretch))); },
  });

  const unfold = layOut(root, { sweeper, controls, notices, verdict, evidence: { key: evidenceKey, picture: evidence, rows: evidenceRows },
    reset, ways, shown, runs, bars: [barsLegend(), bars, barsNote], gauge, status, presses: [train, play, single], bet, looks,
    legend, clear, charts, challenges, table, python });

  const trainer = makeTrainer(model, heard);
  const digitsReady = () => digitsText(model).then((text) => { pixels = THIS_ENGINE.unpack(text); update("runs"); }, () => {});
  const fromKernel = () => {
    const [given, next] = [model.get("settings"), sane(model.get("settings"))];
    if (JSON.stringify(given) === JSON.stringify(settings)) return;
    if (JSON.stringify(next) !== JSON.stringify(settings)) {
      acted("Python set other settings");
      settings = next;
      begin("run");
    }
    if (refused(given)) refuse(refused(given));
    remember(); // Python reads what is used
  };
  const given = () => { // results of a run that Python trained
    const measured = model.get("results");
    if (measured?.source !== "python") return;
    [results, portrait, plane, seen] = [measured, null, null, null];
    update("view", "runs", "bars", "words", "table");
  };
  model.on("change:settings", fromKernel);
  model.on("change:results", given);
  const within = (node, high) => Math.max(240, Math.min(node.clientWidth, high));
  const measureWidths = () => {
    [widths.runs, widths.bars] = [within(runs.parentElement, 400), within(bars.parentElement, 560)];
    widths.evidence = within(evidence.parentElement, 760);
    widths.charts = charts.map(({ node }) => within(node, 480));
  };
  measureWidths();
  controls.follow(settings);
  display(evidence, evidencePicture(`${uid}-evidence`, null, widths.evidence)); // frames of the final size
  display(runs, runsPicture(picture, uid, { job, portrait, plane, pixels, ghost: null }, widths.runs));
  display(bars, emptyBars(uid, CLASSES_OF_ENGINE[settings.world], widths.bars, 6));
  const redraw = new ResizeObserver(() => { measureWidths(); update("runs", "bars", "charts", "evidence"); });
  redraw.observe(root);
  const sent = () => {
    const now = fromAddress(location.hash);
    if (!now) return;
    acted("the address of the page changed");
    settings = now.settings;
    Object.assign(view, now.view);
    begin("run");
    refuse(now.refused);
  };
  if (model.asset) addEventListener("hashchange", sent);
  if (model.asset) digitsReady();
  refuse(addressed ? addressed.refused : refused(model.get("settings")));
  if (model.get("results")?.source === "python") given();
  else begin("run");
  const unlink = skipLink(model, "Skip to the laboratory", sweeper.buttons[0]);
  return () => {
    unlink();
    trainer.close();
    redraw.disconnect();
    unfold();
    clearTimeout(addressing);
    removeEventListener("hashchange", sent);
    model.off("change:settings", fromKernel);
    model.off("change:results", given);
  };
}

function render({ model, el }) {
  el.append(make("div", { class: "lab" }));
  return assemble({ model, root: el.lastChild });
}

export default { render };
