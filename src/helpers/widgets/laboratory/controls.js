// ---- the controls: what stands at first sight, and what is folded away ----------------------------------------------------------------

const AT_FIRST = ["batch_size", "lr"];
const FOLDED = ["stop_loss", "epochs", "momentum", "width", "n", "label_noise", "temperature", "toy_noise"];

// All controls of a setting. `lab`: now(), the settings; change(part), what a reader moved.
function makeControls(uid, lab) {
  const sliders = Object.fromEntries(Object.keys(CONTROLS).map((key) => [key, slider(key, uid, lab.now, (name, value) => lab.change({ [name]: value }))]));
  const world = chooser(`${uid}-world`, "world", WORLDS, lab.now().world, (name) => lab.change({ world: name }));
  const stop = chooser(`${uid}-stop`, "stop at", { epochs: "epochs", loss: "training loss" }, "epochs",
    (name) => lab.change(name === "loss" ? STOP_AT_LOSS : { stop_loss: 0, epochs: DEFAULTS_OF_ENGINE.epochs }));
  const seed = make("input", { id: `${uid}-seed`, type: "number", min: 0, max: 4294967295, step: 1 });
  seed.dataset.lmSuppressShortcuts = "true";
  seed.addEventListener("change", () => {
    lab.change({ seed: seed.value });
    seed.value = lab.now().seed;
  });
  const another = button("another", () => lab.change({ seed: (lab.now().seed + 1) % 2 ** 32 }));
  const summary = make("summary", {}, "More controls");
  const nodes = (keys) => keys.map((key) => sliders[key].node);
  return {
    world: world.node, stop: stop.node, summary,
    first: make("div", { class: "lab-controls" }, ...nodes(AT_FIRST)),
    folded: make("div", { class: "lab-controls" }, ...nodes(FOLDED),
      make("div", { class: "lab-control lab-seed" }, make("label", { for: seed.id }, "seed"), seed, another)),
    follow(settings) {
      for (const { update } of Object.values(sliders)) update(settings);
      const loss = settings.stop_loss > 0;
      sliders.toy_noise.node.hidden = settings.world === "digits";
      sliders.stop_loss.node.hidden = !loss;
      sliders.momentum.input.disabled = stop.select.disabled = settings.temperature > 0;
      write(sliders.epochs.label, loss ? "epochs, at most" : "epochs");
      stop.select.value = loss ? "loss" : "epochs";
      const [byEpochs, byLoss] = stop.select.options;
      write(byEpochs, loss ? `${DEFAULTS_OF_ENGINE.epochs} epochs` : `${settings.epochs} ${settings.epochs === 1 ? "epoch" : "epochs"}`);
      write(byLoss, `training loss ${format(loss ? settings.stop_loss : STOP_AT_LOSS.stop_loss)}`);
      world.select.value = settings.world;
      if (document.activeElement !== seed) seed.value = settings.seed; // not while a reader types
      write(summary, moreOf(settings));
    },
  };
}

// What a reader has just changed, in words; one choice may set two settings.
const causeOf = (part) => ("stop_loss" in part && "epochs" in part ? "you changed where training stops" : `you changed the ${Object.keys(part).map((key) => (key === "world" ? `world to ${SHORT[part.world].toLowerCase()}` : CONTROLS[key]?.label ?? key)).join(" and the ")}`);

// The fold's name, with what in it is not as the laboratory begins.
function moreOf(settings) {
  const moved = [...FOLDED.filter((key) => settings[key] !== DEFAULTS_OF_ENGINE[key]).map((key) => `${CONTROLS[key].label} ${(CONTROLS[key].text ?? format)(settings[key])}`),
    ...(settings.seed ? [`seed ${settings.seed}`] : [])];
  return `More controls${moved.length ? `: ${moved.join(", ")}` : ""}`;
}

// Two sliders over what a finished run said: lambda, and the noise over the best. `moved` is called with {lam} or {stretch}.
function makeView(uid, moved) {
  const lam = make("input", { id: `${uid}-lam`, type: "range", min: 0, max: LAMBDAS_OF_ENGINE.length - 1, step: 1 });
  const stretch = make("input", { id: `${uid}-stretch`, type: "range", min: 0, max: STRETCH.steps, step: 1 });
  const [lamText, stretchText] = [lam, stretch].map(({ id }) => make("output", { for: id, "aria-live": "off" }));
  for (const input of [lam, stretch]) {
    input.dataset.lmSuppressShortcuts = "true";
    input.addEventListener("input", () => moved({ lam: Number(lam.value), stretch: STRETCH.value(Number(stretch.value)) }));
  }
  const control = (label, input, output) => make("div", { class: "lab-control" }, make("label", { for: input.id }, label), input, output);
  return {
    node: make("div", { class: "lab-controls" }, control("trade-off λ", lam, lamText), control("ghost noise σ", stretch, stretchText)),
    follow(view) {
      [lam.value, stretch.value] = [view.lam, STRETCH.at(view.stretch)];
      write(lamText, format(LAMBDAS_OF_ENGINE[view.lam]));
      write(stretchText, view.stretch === 1 ? "the best" : `${format(view.stretch, 2)} × the best`);
      lam.setAttribute("aria-valuetext", lamText.textContent);
      stretch.setAttribute("aria-valuetext", stretchText.textContent);
    },
  };
}

// A button that copies what stands in a cell, and a place that says whether it did.
function copierOf(cell) {
  const copied = make("span", { role: "status" });
  const copy = button("Copy as Python", async () => {
    try {
      await navigator.clipboard.writeText(cell.textContent);
      copied.textContent = " copied";
    } catch {
      copied.textContent = " select the cell below and copy it";
    }
  });
  return [copy, copied];
}
