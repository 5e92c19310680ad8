// ---- settings: controls, the address of the page, the cell that repeats a run ----------------------------------------------------

const WORLDS = { digits: "digits, 8 × 8", moons: "two moons", circles: "two circles", xor: "four corners (XOR)", spirals: "three spirals" };
const most = (settings) => (settings.world === "digits" ? 300 : 1000);
const logarithmic = (low, high, whole) => ({
  steps: 200,
  value: (at, settings) => {
    const top = typeof high === "function" ? high(settings) : high;
    const v = low * (top / low) ** (at / 200);
    return whole ? Math.round(v) : Number(v.toPrecision(3));
  },
  at: (value, settings) => Math.round((200 * Math.log(value / low)) / Math.log((typeof high === "function" ? high(settings) : high) / low)),
});
const linear = (low, high, step) => ({
  steps: Math.round((high - low) / step),
  value: (at) => Number((low + step * at).toPrecision(6)),
  at: (value) => Math.round((value - low) / step),
});
const COLD = { // 0, then logarithmic
  steps: 100,
  value: (at) => (at === 0 ? 0 : Number((1e-6 * 1e5 ** (at / 100)).toPrecision(2))),
  at: (value) => (value === 0 ? 0 : Math.max(1, Math.round((100 * Math.log(value / 1e-6)) / Math.log(1e5)))),
};

const CONTROLS = {
  batch_size: { label: "batch size", ...logarithmic(1, (settings) => settings.n, true) },
  lr: { label: "learning rate", ...logarithmic(0.001, 2, false) },
  epochs: { label: "epochs", ...logarithmic(1, 300, true) },
  momentum: { label: "momentum", ...linear(0, 0.95, 0.05) },
  width: { label: "hidden units", ...logarithmic(2, 64, true) },
  n: { label: "examples n", ...logarithmic(20, most, true) },
  label_noise: { label: "label noise", ...linear(0, 0.6, 0.05), text: percent },
  temperature: { label: "Langevin noise", ...COLD, text: (v) => (v === 0 ? "off" : format(v, 2)) },
  toy_noise: { label: "spread of classes", ...linear(0, 0.6, 0.02) },
};

// A setting from anywhere, made one that can be trained; null where a value is no number.
function sane(given) {
  const settings = { ...DEFAULTS_OF_ENGINE };
  for (const [key, value] of Object.entries(given ?? {})) {
    if (key === "world") settings.world = Object.hasOwn(WORLDS, value) ? value : settings.world;
    else if (Object.hasOwn(settings, key) && Number.isFinite(Number(value))) settings[key] = Number(value);
  }
  const within = (v, low, high) => Math.min(Math.max(v, low), high);
  settings.n = within(Math.round(settings.n), 20, most(settings));
  settings.batch_size = within(Math.round(settings.batch_size), settings.temperature > 0 ? 2 : 1, settings.n);
  settings.epochs = within(Math.round(settings.epochs), 1, 1000);
  settings.width = within(Math.round(settings.width), 1, 256);
  settings.lr = within(settings.lr, 1e-5, 10);
  settings.momentum = within(settings.momentum, 0, 0.99);
  settings.label_noise = within(settings.label_noise, 0, 1);
  settings.temperature = within(settings.temperature, 0, 1);
  settings.toy_noise = within(settings.toy_noise, 0, 2);
  settings.seed = within(Math.round(settings.seed), 0, 2 ** 32 - 1);
  return settings;
}

const MARK = "#lab?";

function toAddress(settings, view) {
  const changed = Object.entries(settings).filter(([key, value]) => value !== DEFAULTS_OF_ENGINE[key]);
  const parts = [...changed, ...Object.entries(view)].map(([key, value]) => `${key}=${value}`);
  return MARK + parts.join("&");
}

function fromAddress(hash) {
  if (!hash.startsWith(MARK)) return null;
  const parts = Object.fromEntries(new URLSearchParams(hash.slice(MARK.length)));
  return { settings: sane(parts), lam: Number(parts.lam ?? NaN), stretch: Number(parts.stretch ?? NaN) };
}

// The cell that repeats a run with the package.
function asPython(settings) {
  const { world, ...rest } = settings;
  const given = Object.entries(rest).filter(([key, value]) => value !== DEFAULTS_OF_ENGINE[key]).map(([key, value]) => `${key}=${value}`);
  return `import torch
from helpers.widgets.laboratory import measure, replay

torch.set_num_threads(1)  # small networks run faster on one thread than on many
done = replay(${[`"${world}"`, ...given].join(", ")})
bounds = measure(done.run, done.roles, sigma=done.sigma, incoherence=done.incoherence)
bounds["gap"], bounds["closed_form"], bounds["omniscient"]`;
}

// One slider with its label and its value in words; `changed` is called with the key and the new value.
function slider(key, uid, settings, changed) {
  const control = CONTROLS[key];
  const id = `${uid}-${key}`;
  const input = make("input", { id, type: "range", min: 0, max: control.steps, step: 1 });
  input.dataset.lmSuppressShortcuts = "true"; // JupyterLab's command mode would take the arrow keys
  const output = make("output", { for: id, "aria-live": "off" });
  const update = (current) => {
    const text = (control.text ?? format)(current[key]);
    input.value = control.at(current[key], current);
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
  input.addEventListener("input", () => {
    const before = settings();
    let at = Number(input.value);
    const direction = Math.sign(at - control.at(before[key], before));
    // several stops may round to one number: go on to the next that differs, or an arrow key would move nothing
    while (control.value(at, before) === before[key] && at > 0 && at < control.steps && direction) at += direction;
    changed(key, control.value(at, before));
  });
  return { update, input, node: make("div", { class: "lab-control" }, make("label", { for: id }, control.label), input, output) };
}
