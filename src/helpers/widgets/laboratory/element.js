// ---- the element ------------------------------------------------------------------------------------------------------------------

const THIS_ENGINE = engine();
const DEFAULTS_OF_ENGINE = THIS_ENGINE.DEFAULTS;
const LAMBDAS_OF_ENGINE = THIS_ENGINE.LAMBDAS;
const CLASSES_OF_ENGINE = THIS_ENGINE.CLASSES;
const POOL_OF_ENGINE = THIS_ENGINE.POOL;
const reasonsOf = THIS_ENGINE.warnings;
const STRETCH = { steps: 40, value: (at) => 10 ** ((at - 20) / 20), at: (v) => Math.round(20 + 20 * Math.log10(v)) };

let digitsOnce = null; // promise of the digits' text: loaded once a page
function digitsText(model) {
  digitsOnce ??= new Promise((resolve, reject) => {
    if (!model.asset) { // a notebook: the kernel has them
      const hear = (message) => {
        if (message.digits === undefined) return;
        model.off("msg:custom", hear);
        resolve(message.digits);
      };
      model.on("msg:custom", hear);
      model.send({ wanted: "digits" });
      return;
    }
    if (globalThis.laboratoryDigits) {
      resolve(globalThis.laboratoryDigits);
      return;
    }
    const load = make("script", { src: model.asset("digits.js") });
    load.addEventListener("load", () => resolve(globalThis.laboratoryDigits));
    load.addEventListener("error", () => {
      digitsOnce = null; // asked again at the next training
      reject(new Error("The digits could not be loaded; choose another world, or reload the page."));
    });
    document.head.append(load);
  });
  return digitsOnce;
}

// A link at the head of a built page that leads past its menus to this button; what takes it away again.
function skipLink(model, text, target) {
  if (!model.asset) return () => {};
  const link = make("a", { href: `#${target.id}` }, text);
  link.addEventListener("click", (event) => { // the address stays
    event.preventDefault();
    target.focus();
    target.scrollIntoView({ block: "center" });
  });
  const node = make("div", { class: "skip-link d-print-none lab-skip" }, link);
  const others = document.querySelector("#pst-skip-link");
  if (others) others.after(node);
  else document.body.prepend(node);
  return () => node.remove();
}

// What is said of what a reader did, by kind; a line that is empty where there is nothing to say.
function makeNotices() {
  const node = make("p", { class: "lab-note", role: "status" });
  const said = {};
  return { node, said, tell(words) { write(node, Object.values(Object.assign(said, words)).filter(Boolean).join(" ")); } };
}

// Trains on request: train(settings, mode), resume(mode); calls heard({portrait, quick, plane, results, diverged, where, problem}).
function makeTrainer(model, heard) {
  let id = 0;
  let supplied = false;
  const port = connect((data) => { if (data.id === undefined || data.id === id) heard(data); });
  return {
    async train(settings, mode) {
      id += 1;
      const mine = id;
      let text = null;
      if (settings.world === "digits" && !supplied) {
        try {
          text = await digitsText(model);
        } catch (error) {
          heard({ problem: error.message });
          return;
        }
        if (mine !== id) return;
        supplied = true;
      }
      port.post({ id, settings, mode, ...(text === null ? {} : { digits: text }) });
    },
    resume(mode) { port.post({ id, mode }); },
    close() { port.close(); },
  };
}

const scrolled = (words, content) => make("div", { class: "lab-scroll", role: "region", tabindex: 0, "aria-label": words }, content);

function chooser(id, label, options, value, changed) {
  const select = make("select", { id }, ...Object.entries(options).map(([key, text]) => make("option", { value: key, selected: key === value && "" }, text)));
  select.dataset.lmSuppressShortcuts = "true";
  select.addEventListener("change", () => changed(select.value));
  return { select, node: make("div", { class: "lab-choice" }, make("label", { for: id }, label), select) };
}

function checkbox(id, text, checked) {
  const input = make("input", { id, type: "checkbox", checked: checked && "" });
  input.dataset.lmSuppressShortcuts = "true";
  return { input, node: make("span", { class: "lab-check" }, input, make("label", { for: id }, text)) };
}

function button(text, pressed, attributes = {}) {
  const node = make("button", { type: "button", ...attributes }, text);
  node.dataset.lmSuppressShortcuts = "true";
  node.addEventListener("click", pressed);
  return node;
}

// "closed form, end point and omniscient"
const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

// Which bars are warned, each reason once: "Conclude nothing from closed form and end point: noise larger than the weights."
function warned(columns) {
  const reasons = [...new Set(columns.flatMap((column) => column.reasons))];
  const of = (reason) => columns.filter((column) => column.reasons.includes(reason)).map(({ name }) => name);
  return reasons.length ? ` Conclude nothing from ${reasons.map((reason) => `${listed(of(reason))}: ${reason}`).join("; nor from ")}.` : "";
}

// What a reader who does not see the picture is told once a run is done, of the bars as they stand.
function sentence(results, settings, view, columns) {
  const row = results.omniscient?.[view.lam];
  const certified = columns.find(({ elsewhere }) => elsewhere)?.bound;
  const parts = [
    `Gap ${format(results.gap.value)} ± ${format(2 * results.gap.standard_error, 2)} nats; test error ${percent(results.test_error)}, training error ${percent(results.train_error)}; trace ${format(results.trace)}`,
    columns.slice(0, 2).map(({ name, bound, none }) => `${name} ${bound ? format(bound.value) : none}`).join(", "),
  ];
  if (row) parts.push(`omniscient at λ = ${format(row.lam)}: ${format(row.value)}, of which ${Math.round((100 * row.penalty) / row.value)} % is read off held-out losses`);
  if (certified) parts.push(`self-certified, of the moved and noisy network: ${format(certified.value)}`);
  parts.push(`counted ${format(results.counted.value)} on the 0–1 gap of ${format(results.error_gap.value)}`);
  if (results.langevin) {
    const total = results.train_error + results.langevin.value;
    parts.push(total < 1 ? `certificate ${percent(results.train_error)} + ${percent(results.langevin.value)} = ${percent(total)} error` : `no certificate: the Langevin bound alone is ${format(results.langevin.value)}, and an error is at most 1`);
  }
  const stopped = results.reached === false ? ` The training loss never fell below ${format(settings.stop_loss)} in ${results.epochs} epochs; the run is not compared with others.`
    : results.reached ? ` Training stopped after ${results.epochs} epochs, below a loss of ${format(settings.stop_loss)}; the bounds take that number of steps as fixed beforehand.` : "";
  const paused = results.reached === null && results.epochs < settings.epochs ? ` After ${results.epochs} of ${settings.epochs} epochs.` : "";
  return `${parts.join("; ")}.${warned(columns)}${paused}${stopped}`;
}

function tableMarks(results, columns) {
  const cell = (label, value) => mark("td", { "data-label": label }, format(value)); // a phone shows the label in the cell
  const against = ({ reasons, elsewhere }) => [...reasons, ...(elsewhere ? ["bounds the moved and noisy network"] : [])].join(", ") || "none";
  const rows = columns.map((column) => mark("tr", {}, mark("th", { scope: "row" }, column.name),
    ...["value", "standard error", ...TERMS].map((key) => cell(key, column.bound?.[key.replace(" ", "_")])), mark("td", { "data-label": "warnings" }, against(column))));
  const facts = [["gap", results.gap], ["0–1 gap", results.error_gap]];
  return [
    mark("thead", {}, mark("tr", {}, ...["bound", "value", "standard error", ...TERMS, "warnings"].map((text) => mark("th", { scope: "col" }, text)))),
    mark("tbody", {}, ...rows, ...facts.map(([name, { value, standard_error: error }]) => mark("tr", {}, mark("th", { scope: "row" }, name), cell("value", value),
      cell("standard error", error), mark("td", { colspan: 4, class: "lab-nothing" })))),
  ];
}

// Where a training is, in words, for those who watch, beside the run before.
function wayOf(portrait, { epochs, stop_loss }, before = null) {
  const most = stop_loss > 0 ? ` of at most ${epochs}` : ` of ${epochs}`;
  if (!portrait || !portrait.losses.length) return `epoch 0${most}`;
  const gap = before && portrait.gap !== undefined ? `; gap ${format(portrait.gap, 2)}, in the run before ${format(before.gap.value, 2)}` : "";
  return `epoch ${portrait.epoch}${most}, training loss ${format(portrait.losses.at(-1))} nats${gap}`;
}

// How far a training is, from 0 to 1: by epochs, or by the logarithm of the loss on its way to the one to stop at.
function progressOf(portrait, { epochs, stop_loss }) {
  if (!portrait) return 0;
  const share = portrait.epoch / epochs;
  const { losses } = portrait;
  if (!(stop_loss > 0) || !losses.length) return share;
  const way = Math.log(losses[0] / losses.at(-1)) / Math.log(losses[0] / stop_loss);
  return losses.at(-1) <= stop_loss ? 1 : Math.min(Math.max(way, share, 0), 1);
}
