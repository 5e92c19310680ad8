// ---- the element ------------------------------------------------------------------------------------------------------------------

const THIS_ENGINE = engine();
const DEFAULTS_OF_ENGINE = THIS_ENGINE.DEFAULTS;
const LAMBDAS_OF_ENGINE = THIS_ENGINE.LAMBDAS;
const reasonsOf = THIS_ENGINE.warnings;
const STRETCH = { steps: 40, value: (at) => 10 ** ((at - 20) / 20), at: (v) => Math.round(20 + 20 * Math.log10(v)) };
const SWEEPS = {
  batch_size: (settings) => [2, 5, 10, 20, 50, 100, 200].filter((b) => b <= settings.n),
  lr: () => [0.01, 0.03, 0.1, 0.3, 0.6],
};
const setting = (key) => ({ label: CONTROLS[key].label, log: !["momentum", "label_noise"].includes(key), of: ({ settings }) => settings[key] });
const ACROSS = {
  batch_size: setting("batch_size"), lr: setting("lr"), epochs: setting("epochs"), momentum: setting("momentum"),
  width: setting("width"), n: setting("n"), label_noise: setting("label_noise"), temperature: setting("temperature"),
  trace: { label: "trace of the training Hessian", log: true, of: ({ results }) => results.trace },
};
const UP = {
  gap: { label: "gap, nats", of: ({ results }) => results.gap.value, error: ({ results }) => results.gap.standard_error },
  error_gap: { label: "gap of the errors", of: ({ results }) => results.error_gap.value, error: ({ results }) => results.error_gap.standard_error },
  trace: { label: "trace of the training Hessian", of: ({ results }) => results.trace },
  test_error: { label: "test error", of: ({ results }) => results.test_error },
  closed_form: { label: "closed form, nats", of: ({ results }) => results.closed_form.value },
  terminal: { label: "end point, nats", of: ({ results }) => results.terminal.value },
  omniscient: { label: "omniscient, nats", of: ({ results }, view) => results.omniscient[view.lam]?.value ?? null },
};

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
    load.addEventListener("error", () => reject(new Error("The digits could not be loaded; choose another world, or reload the page.")));
    document.head.append(load);
  });
  return digitsOnce;
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

function chooser(id, label, options, value, changed) {
  const select = make("select", { id }, ...Object.entries(options).map(([key, text]) => make("option", { value: key, selected: key === value && "" }, text)));
  select.dataset.lmSuppressShortcuts = "true";
  select.addEventListener("change", () => changed(select.value));
  return { select, node: make("div", { class: "lab-choice" }, make("label", { for: id }, label), select) };
}

function button(text, pressed, attributes = {}) {
  const node = make("button", { type: "button", ...attributes }, text);
  node.dataset.lmSuppressShortcuts = "true";
  node.addEventListener("click", pressed);
  return node;
}

// What a reader who does not see the picture is told once a run is done.
function sentence(results, settings, view) {
  const row = results.omniscient?.[view.lam];
  const parts = [
    `Gap ${format(results.gap.value)} ± ${format(2 * results.gap.standard_error, 2)} nats; test error ${percent(results.test_error)}, training error ${percent(results.train_error)}; trace ${format(results.trace)}`,
    `closed form ${format(results.closed_form.value)}, end point ${format(results.terminal.value)}`,
  ];
  if (row) {
    const reasons = reasonsOf(row);
    parts.push(`omniscient at λ = ${format(row.lam)}: ${format(row.value)}, of which ${Math.round((100 * row.penalty) / row.value)} % is read off held-out losses${reasons.length ? ` (${reasons.join(", ")})` : ""}`);
  }
  parts.push(`counted ${format(results.counted.value)} on the 0-1 gap of ${format(results.error_gap.value)}`);
  if (results.langevin) parts.push(`certificate ${percent(results.train_error)} + ${percent(results.langevin.value)} = ${percent(results.train_error + results.langevin.value)} error`);
  return `${parts.join("; ")}.`;
}

function numbersTable(results, columns) {
  const cell = (label, value) => make("td", { "data-label": label }, format(value)); // a phone shows the label in the cell
  const rows = columns.map((column) => make("tr", {}, make("th", { scope: "row" }, column.name),
    ...["value", ...TERMS].map((key) => cell(key, column.bound?.[key])), make("td", { "data-label": "warnings" }, column.reasons.join(", ") || "none")));
  const facts = [["gap", results.gap.value, results.gap.standard_error], ["0-1 gap", results.error_gap.value, results.error_gap.standard_error]];
  return [
    make("thead", {}, make("tr", {}, ...["bound", "value", ...TERMS, "warnings"].map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows, ...facts.map(([name, value, error]) => make("tr", {}, make("th", { scope: "row" }, name), cell("value", value),
      make("td", { colspan: 4 }, `standard error ${format(error, 2)}`)))),
  ];
}
