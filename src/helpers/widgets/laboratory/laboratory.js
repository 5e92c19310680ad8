// ---- the laboratory ----------------------------------------------------------------------------------------------------------------

function assemble({ model, root }) {
  const uid = `lab-${Math.random().toString(36).slice(2, 9)}`;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const addressed = model.asset ? fromAddress(location.hash) : null;
  let settings = addressed?.settings ?? sane(model.get("settings"));
  const view = { lam: 2, stretch: 1 };
  const look = ({ lam, stretch }) => {
    if (Object.hasOwn(LAMBDAS_OF_ENGINE, lam)) view.lam = lam;
    if (stretch > 0 && Number.isFinite(stretch)) view.stretch = stretch;
  };
  if (addressed) look(addressed);
  const history = [];
  const solved = new Set();
  let [results, quick, portrait, plane, pixels] = [null, null, null, null, null];
  let [busy, pending, started, drawnAt, frame, picture] = [false, false, 0, 0, 0, null];
  let [sweep, mode, prediction] = [[], "run", null];
  let job = settings; // what is being trained; settings may have moved on meanwhile

  // --- controls
  const sliders = Object.keys(CONTROLS).map((key) => slider(key, uid, () => settings, changed));
  const world = chooser(`${uid}-world`, "world", WORLDS, settings.world, (name) => change({ world: name }));
  const seed = make("input", { id: `${uid}-seed`, type: "number", min: 0, max: 4294967295, step: 1 });
  seed.dataset.lmSuppressShortcuts = "true";
  seed.addEventListener("change", () => change({ seed: Number(seed.value) }));
  const train = button("Train", () => press("run"), { class: "lab-main" });
  const play = button("Play slowly", () => press(mode === "play" && busy ? "pause" : "play"));
  const single = button("One epoch", () => press("step"));
  const reset = button("Reset", () => { sweep = []; settings = sane({ world: settings.world }); begin("run"); });
  const status = make("output", { class: "lab-status", "aria-live": "polite" });
  const note = make("p", { class: "lab-note", role: "status" });
  const progress = make("progress", { max: 1, value: 0, "aria-label": "epochs trained" });
  const guess = make("input", { id: `${uid}-guess`, type: "checkbox" });
  guess.dataset.lmSuppressShortcuts = "true";
  guess.addEventListener("change", () => update());
  const guesses = ["trace", "gap"].map((key) => chooser(`${uid}-guess-${key}`, `I think the ${key}`,
    { "": "…", ...Object.fromEntries(DIRECTIONS.map((word) => [word, word])) }, "", () => update()));
  const ask = make("div", { class: "lab-predict", hidden: "" }, ...guesses.map(({ node }) => node), button("Train and see", () => press("run")));
  const verdict = make("p", { class: "lab-verdict", role: "status" });

  // --- pictures
  const bars = make("svg", { role: "img", "aria-labelledby": `${uid}-bars-title ${uid}-bars-desc` }, ...waiting(`${uid}-bars`));
  const runs = make("svg", { role: "img", "aria-labelledby": `${uid}-runs-title` }, ...waiting(`${uid}-runs`));
  const shown = chooser(`${uid}-picture`, "picture", { world: "the runs", plane: "their weights", losses: "the way down" }, "world", (name) => { picture = name; update(); });
  picture = "world";
  const lam = make("input", { id: `${uid}-lam`, type: "range", min: 0, max: LAMBDAS_OF_ENGINE.length - 1, step: 1 });
  const stretch = make("input", { id: `${uid}-stretch`, type: "range", min: 0, max: STRETCH.steps, step: 1 });
  const lamText = make("output", { for: lam.id, "aria-live": "off" });
  const stretchText = make("output", { for: stretch.id, "aria-live": "off" });
  for (const input of [lam, stretch]) {
    input.dataset.lmSuppressShortcuts = "true";
    input.addEventListener("input", () => {
      view.lam = Number(lam.value);
      view.stretch = STRETCH.value(Number(stretch.value));
      update();
      remember();
    });
  }
  const gauge = make("div", { class: "lab-gauge", role: "img", "aria-label": "nothing has been trained yet" });
  const table = make("table");
  const python = make("code");
  const copied = make("span", { role: "status" });
  const challenges = CHALLENGES.map(({ ask: text }) => make("li", {}, make("span", { class: "lab-tick", "aria-hidden": "true" }, "○"), ` ${text} `, make("em", {})));
  const charts = [["batch_size", "trace"], ["trace", "gap"]].map(([across, up], i) => {
    const chart = { across, up, svg: make("svg", { role: "img", "aria-labelledby": `${uid}-h${i}-history-title` }, ...waiting(`${uid}-h${i}-history`)) };
    const labels = (options) => Object.fromEntries(Object.entries(options).map(([key, { label }]) => [key, label]));
    const choices = [chooser(`${uid}-up${i}`, "up", labels(UP), up, (key) => { chart.up = key; update(); }),
      chooser(`${uid}-across${i}`, "across", labels(ACROSS), across, (key) => { chart.across = key; update(); })];
    chart.node = make("div", { class: "lab-chart" }, make("div", { class: "lab-row" }, ...choices.map(({ node }) => node)), chart.svg);
    return chart;
  });

  // --- what happens
  function changed(key, value) { change({ [key]: value }); }
  function change(part) {
    sweep = [];
    settings = sane({ ...settings, ...part });
    if (guess.checked && history.length) { update(); remember(); return; }
    begin("run");
  }
  function begin(how) {
    remember();
    update();
    if (busy && performance.now() - started < 1500 && how === "run" && mode === "run") { pending = true; return; }
    [busy, pending, started, mode, results, quick, portrait] = [true, false, performance.now(), how, null, null, null];
    job = settings;
    root.classList.add("lab-busy");
    trainer.train(job, how);
    update();
  }
  function press(how) {
    sweep = [];
    if (guess.checked && how === "run") prediction = { of: Object.fromEntries(guesses.map(({ select }, i) => [["trace", "gap"][i], select.value])), before: history.at(-1) };
    const going = portrait !== null && portrait.epoch < job.epochs && portrait.epoch > 0;
    if (how !== "run" && going) {
      mode = how;
      busy = how !== "pause";
      results = null;
      trainer.resume(how);
      update();
    } else begin(how);
  }
  function finish() {
    busy = false;
    const whole = results.epochs === job.epochs;
    if (whole) {
      history.push({ settings: { ...job }, results });
      CHALLENGES.forEach(({ check }, i) => {
        const outcome = check(history.at(-1), history.slice(0, -1));
        if (outcome === true) solved.add(i);
        challenges[i].lastChild.textContent = solved.has(i) ? "" : `(${outcome})`;
        challenges[i].firstChild.textContent = solved.has(i) ? "●" : "○";
        challenges[i].classList.toggle("lab-solved", solved.has(i));
      });
      if (prediction?.before) {
        const words = Object.entries(prediction.of).filter(([, said]) => said).map(([key, said]) => {
          const truth = direction(prediction.before.results, results, key);
          return said === truth ? `The ${key} ${truth}, as you said.` : `You said the ${key} ${said}; it ${truth}.`;
        });
        verdict.textContent = words.join(" ");
      }
      prediction = null;
      model.set("results", { ...results, losses: results.losses.map((v) => Number(v.toPrecision(6))), settings: { ...job } });
      model.save_changes();
    }
    if (pending) { begin("run"); return; }
    if (sweep.length) {
      settings = sane({ ...settings, ...sweep.shift() });
      begin("run");
    }
  }
  function heard(data) {
    if (data.where === "page") note.textContent = "This browser allows no worker here, so the networks train on the page itself, in slices.";
    if (data.problem || data.broken) { note.textContent = data.problem ?? `The computation stopped: ${data.broken}`; busy = false; }
    if (data.diverged) {
      [busy, sweep] = [false, []];
      status.textContent = `The runs diverged in epoch ${data.diverged}: a weight is no longer finite. Lower the learning rate.`;
    }
    if (data.portrait) portrait = data.portrait;
    if (data.quick) quick = data.quick;
    if (data.plane) plane = data.plane;
    if (data.results) {
      results = data.results;
      quick = null;
      if (mode !== "run") mode = "pause";
      finish();
    }
    update();
  }
  function remember() {
    model.set("settings", { ...settings });
    model.save_changes();
    if (model.asset) window.history.replaceState(null, "", toAddress(settings, { lam: view.lam, stretch: Number(view.stretch.toPrecision(3)) }));
  }

  // --- what is seen
  function update() {
    if (frame) return;
    frame = requestAnimationFrame(() => { frame = 0; draw(); });
  }
  function draw() {
    const now = performance.now();
    const current = results ?? quick;
    sliders.forEach(({ update: show }) => show(settings));
    world.select.value = settings.world;
    seed.value = settings.seed;
    toggle("toy_noise", settings.world === "digits");
    toggle("momentum", false, settings.temperature > 0);
    play.textContent = mode === "play" && busy ? "Pause" : "Play slowly";
    ask.hidden = !(guess.checked && history.length);
    root.classList.toggle("lab-busy", busy);
    progress.value = portrait ? portrait.epoch / job.epochs : 0;
    lam.value = view.lam;
    stretch.value = STRETCH.at(view.stretch);
    lamText.textContent = format(LAMBDAS_OF_ENGINE[view.lam]);
    stretchText.textContent = view.stretch === 1 ? "the best" : `${format(view.stretch, 2)} × the best`;
    lam.setAttribute("aria-valuetext", lamText.textContent);
    stretch.setAttribute("aria-valuetext", stretchText.textContent);
    python.textContent = asPython(settings);
    if (calm && busy && now - drawnAt < 1000 && !results) return;
    drawnAt = now;
    drawRuns(current);
    if (!current) return;
    const columns = columnsOf(current, view.lam, view.stretch);
    drawBars(bars, uid, current, columns, Math.max(300, Math.min(bars.parentElement.clientWidth || 460, 560)));
    drawGauge(current.omniscient?.[view.lam]);
    if (!results) return;
    const words = sentence(results, settings, view);
    if (!sweep.length && status.textContent !== words) status.textContent = words;
    table.replaceChildren(...numbersTable(results, columns));
    charts.forEach(({ svg, across, up, node }, i) => drawHistory(svg, `${uid}-h${i}`, history,
      ACROSS[across], { ...UP[up], of: (entry) => UP[up].of(entry, view) }, Math.max(280, Math.min(node.clientWidth || 400, 480))));
  }
  function toggle(key, hidden, disabled = false) {
    const { node, input } = sliders[Object.keys(CONTROLS).indexOf(key)];
    node.hidden = hidden;
    input.disabled = disabled;
  }
  function drawRuns(current) {
    const size = Math.max(260, Math.min(runs.parentElement.clientWidth || 340, 400));
    const height = picture === "world" && job.world === "digits" ? Math.ceil(size * 0.75) : size;
    Object.entries({ width: size, height, viewBox: `0 0 ${size} ${height}` }).forEach(([name, value]) => runs.setAttribute(name, value));
    const titles = { world: job.world === "digits" ? "Test digits that runs get wrong, those of most runs first" : "Training data of one run, and the boundaries of all four",
      plane: "The four runs in the plane where they move most, with the ghosts of the closed form", losses: "Training loss" };
    runs.replaceChildren(make("title", { id: `${uid}-runs-title` }, titles[picture]));
    if (!portrait) return;
    if (picture === "losses") drawLosses(runs, portrait.losses, job.epochs, CLASSES_OF_ENGINE[job.world], size);
    else if (picture === "plane") { if (plane && current) drawPlane(runs, plane, (current.closed_form?.sigma ?? 0) * view.stretch * Math.sqrt(current.steps), size); }
    else if (portrait.boundaries) drawBoundaries(runs, portrait, size);
    else if (portrait.mistakes && pixels) drawMistakes(runs, portrait, pixels, size);
  }
  function drawGauge(row) {
    const share = row && row.value > 0 ? row.penalty / row.value : 0;
    gauge.style.setProperty("--share", `${100 * share}%`);
    gauge.classList.toggle("lab-mostly", share >= 0.5);
    const words = row ? `read off held-out losses: ${Math.round(100 * share)} %` : "the omniscient bound is being computed";
    gauge.setAttribute("aria-label", words);
    gauge.dataset.words = words;
  }

  // --- put together
  const control = (label, input, output) => make("div", { class: "lab-control" }, make("label", { for: input.id }, label), input, output);
  const copy = button("Copy as Python", async () => {
    try {
      await navigator.clipboard.writeText(python.textContent);
      copied.textContent = " copied";
    } catch {
      copied.textContent = " select the cell below and copy it";
    }
  });
  const key = (name, text) => make("li", {}, make("i", { class: `lab-key lab-key-${name}` }), text);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "The laboratory");
  root.replaceChildren(
    make("div", { class: "lab-row lab-buttons" }, train, play, single, reset, world.node),
    progress,
    note,
    make("div", { class: "lab-controls" }, ...sliders.slice(0, 2).map(({ node }) => node)),
    make("div", { class: "lab-row" },
      ...Object.entries(SWEEPS).map(([name, values]) => button(`Sweep the ${CONTROLS[name].label}`, () => {
        sweep = values(settings).map((value) => ({ [name]: value }));
        charts[0].across = name;
        root.querySelector(`#${uid}-across0`).value = name;
        settings = sane({ ...settings, ...sweep.shift() });
        begin("run");
      })),
      make("span", { class: "lab-check" }, guess, make("label", { for: guess.id }, "predict before I train")), ask),
    verdict,
    make("div", { class: "lab-stage" },
      make("div", { class: "lab-panel" }, shown.node, runs),
      make("div", { class: "lab-panel lab-bars" }, bars,
        make("ul", { class: "lab-legend" }, key("trajectory", "trajectory"), key("flatness", "flatness"), key("penalty", "penalty"),
          key("other", "with the trace difference"), key("gap", "measured gap ± 2 s.e."), key("warned", "warned: conclude nothing")))),
    make("div", { class: "lab-controls" }, control("trade-off λ", lam, lamText), control("ghost noise σ", stretch, stretchText)),
    gauge,
    status,
    make("div", { class: "lab-controls" }, ...sliders.slice(2).map(({ node }) => node),
      make("div", { class: "lab-control lab-seed" }, make("label", { for: seed.id }, "seed"), seed, button("another", () => change({ seed: (settings.seed + 1) % 1000 })))),
    make("div", { class: "lab-stage" }, ...charts.map(({ node }) => node)),
    make("details", { open: "" }, make("summary", {}, "Five challenges"), make("ol", { class: "lab-challenges" }, ...challenges)),
    make("details", { class: "lab-numbers" }, make("summary", {}, "The numbers as a table"), make("div", { class: "lab-scroll", role: "region", tabindex: 0, "aria-label": "numbers of the newest run" }, table)),
    make("details", {}, make("summary", {}, "The same run in Python"), make("p", {}, copy, copied), make("pre", {}, python)),
  );
  for (const summary of root.querySelectorAll("summary, .lab-scroll")) summary.dataset.lmSuppressShortcuts = "true";

  const trainer = makeTrainer(model, heard);
  const digitsReady = () => digitsText(model).then((text) => { pixels = THIS_ENGINE.unpack(text); update(); }, () => {});
  const fromKernel = () => {
    const next = sane(model.get("settings"));
    if (JSON.stringify(next) === JSON.stringify(settings)) return;
    settings = next;
    begin("run");
  };
  const given = () => { // results of a run that Python trained
    const measured = model.get("results");
    if (measured?.source !== "python") return;
    [results, portrait, plane] = [measured, null, null];
    update();
  };
  model.on("change:settings", fromKernel);
  model.on("change:results", given);
  const redraw = new ResizeObserver(update);
  redraw.observe(root);
  const sent = () => { const now = fromAddress(location.hash); if (now) { sweep = []; settings = now.settings; look(now); begin("run"); } };
  if (model.asset) addEventListener("hashchange", sent);
  if (settings.world === "digits" || model.asset) digitsReady();
  if (model.get("results")?.source === "python") given();
  else begin("run");
  return () => {
    trainer.close();
    redraw.disconnect();
    removeEventListener("hashchange", sent);
    model.off("change:settings", fromKernel);
    model.off("change:results", given);
  };
}

const CLASSES_OF_ENGINE = THIS_ENGINE.CLASSES;

function render({ model, el }) {
  const root = make("div", { class: "lab" });
  el.append(root);
  return assemble({ model, root });
}

export default { render };
