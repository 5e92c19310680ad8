// ---- the small laboratory: one button, four bars and the gap ---------------------------------------------------------------------------

// What of the closed form flatness makes, in one line.
function ofFlatness({ flatness, value }, trace) {
  if (!(flatness > 0)) return "The trace of the Hessian is not positive here, so flatness has no bar.";
  return `Its green bar, ${Math.round((100 * flatness) / value)} % of it, is flatness: the trace of the Hessian at the end of training, ${format(trace, 2)}, and the smaller that is, the flatter.`;
}

function render({ model, el }) {
  const uid = `lab-${Math.random().toString(36).slice(2, 9)}`;
  const root = make("div", { class: "lab lab-small-one", role: "group", "aria-label": "Train four networks" });
  const bars = make("svg", { role: "img", "aria-labelledby": `${uid}-bars-title ${uid}-bars-desc` }, ...waiting(`${uid}-bars`));
  const status = make("output", { class: "lab-status", "aria-live": "polite" }, "Four bounds will stand beside the gap that you measure.");
  const note = make("p", { class: "lab-below" });
  const notices = makeNotices();
  const progress = makeProgress("epochs trained", "Four networks are trained at a press, which takes a moment.");
  const press = button("Train four networks", start, { class: "lab-main" });
  let settings = sane(model.get("settings"));
  let [shown, times] = [null, 0];
  el.append(root);
  root.replaceChildren(make("div", { class: "lab-row" }, press), progress.node, notices.node, barsLegend(), bars, note, status);
  notices.tell({ refused: refused(model.get("settings")) });
  model.set("refused", notices.said.refused);
  const unlink = skipLink(model, "Skip to the small laboratory", press);

  function draw() {
    const width = Math.max(240, Math.min(root.clientWidth || 460, 560));
    if (shown) {
      const columns = columnsOf(shown, 3, 1).slice(0, 4);
      display(bars, barsPicture(uid, shown, columns, width));
      note.textContent = belowTheGap(shown, columns);
    }
    else display(bars, emptyBars(uid, CLASSES_OF_ENGINE[settings.world], width, 4));
  }
  function start() {
    if (press.getAttribute("aria-disabled") === "true") return; // not disabled: that would take the focus away
    press.setAttribute("aria-disabled", "true");
    settings = { ...settings, seed: (sane(model.get("settings")).seed + times) % 2 ** 32 };
    times += 1;
    progress.at(0, `epoch 0 of ${settings.epochs}`);
    trainer.train(settings, "run");
  }
  const trainer = makeTrainer(model, (data) => {
    const trouble = data.problem ?? data.broken ?? (data.diverged ? `The runs diverged in epoch ${data.diverged}: a weight is no longer finite.` : null);
    if (trouble) {
      press.setAttribute("aria-disabled", "false");
      press.textContent = "Train four networks";
      status.textContent = trouble;
    }
    if (data.portrait) progress.at(progressOf(data.portrait, settings), wayOf(data.portrait, settings));
    if (data.results) {
      shown = data.results;
      press.setAttribute("aria-disabled", "false");
      press.textContent = "Train four others";
      status.textContent = `The gap is ${format(shown.gap.value)} ± ${format(2 * shown.gap.standard_error, 2)} nats: what the four networks lose on new ${settings.world === "digits" ? "digits" : "examples"} beyond what they lose on their own. The closed form says ${format(shown.closed_form.value)}${reasonsOf(shown.closed_form).length ? `, with a warning: ${reasonsOf(shown.closed_form).join(", ")}` : ""}. ${ofFlatness(shown.closed_form, shown.trace)}`;
      model.set("results", { ...shown, settings });
      model.save_changes();
    }
    draw();
  });
  const redraw = new ResizeObserver(draw);
  redraw.observe(root);
  draw();
  return () => { unlink(); trainer.close(); redraw.disconnect(); };
}

export default { render };
