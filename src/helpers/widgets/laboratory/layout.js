// ---- the layout: what stands where, and what a phone folds away -----------------------------------------------------------------------

const PHONE = "(max-width: 480px)"; // as in the style sheet

const fold = (name, attributes, ...children) => make("details", attributes, make("summary", {}, name), ...children);

// Puts the parts of the laboratory into its root. On a phone the buttons, the answer and the pictures come first: how a sweep
// asks and stops stands among the other controls, and the answer in full is folded. Returns what ends listening to the width.
function layOut(root, { sweeper, controls, notices, verdict, evidence, reset, ways, shown, runs, bars, gauge, status, presses, bet, looks, legend, clear, charts, challenges, table, python }) {
  const sweeps = make("div", { class: "lab-row lab-sweeps" }, ...sweeper.buttons);
  const sweeping = make("div", { class: "lab-row lab-sweeping" }, sweeper.again, sweeper.progress);
  const full = fold("The answer in full", { class: "lab-full" }, sweeper.details);
  const asking = make("div", { class: "lab-row" }); // of sweeps, on a phone
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "The laboratory");
  root.replaceChildren(
    make("div", { class: "lab-question" }, sweeps, sweeping,
      make("div", { class: "lab-words" }, notices.node, sweeper.answer, verdict, sweeper.asker),
      make("div", { class: "lab-evidence" }, evidence.key, evidence.picture),
      full,
      fold("Flatness and gap as a table", {}, scrolled("flatness and gap in numbers", evidence.rows))),
    make("div", { class: "lab-row lab-buttons" }, controls.world, reset),
    ways[0].node,
    controls.first,
    make("div", { class: "lab-stage" },
      make("div", { class: "lab-panel" }, shown.node, runs),
      make("div", { class: "lab-panel lab-bars" }, ...bars)),
    gauge,
    status,
    make("details", { class: "lab-more" }, controls.summary,
      make("div", { class: "lab-row" }, ...presses, bet.asks), asking,
      make("div", { class: "lab-bet" }, ways[1].node, bet.node), looks.node, controls.folded),
    fold("Other axes", {},
      make("div", { class: "lab-row" }, legend, clear), make("div", { class: "lab-stage" }, ...charts.map(({ node }) => node))),
    fold("Five challenges", { class: "lab-five" }, make("ol", { class: "lab-challenges" }, ...challenges.nodes)),
    fold("The numbers as a table", { class: "lab-numbers" }, scrolled("numbers of the newest run", table)),
    fold("The same run in Python", {}, make("p", {}, ...copierOf(python)), make("pre", {}, python)),
  );
  for (const summary of root.querySelectorAll("summary, .lab-scroll")) summary.dataset.lmSuppressShortcuts = "true";
  const narrow = matchMedia(PHONE);
  const place = () => {
    if (narrow.matches) asking.append(controls.stop, sweeper.asks);
    else {
      sweeps.append(controls.stop);
      sweeping.prepend(sweeper.asks);
    }
    asking.hidden = !narrow.matches;
    for (const one of [full, root.querySelector(".lab-five")]) one.open = !narrow.matches;
  };
  place();
  narrow.addEventListener("change", place);
  return () => narrow.removeEventListener("change", place);
}
