// ---- settings: controls, the address of the page, the cell that repeats a run ----------------------------------------------------

const WORLDS = { digits: "digits, 8 × 8", moons: "two moons", circles: "two circles", xor: "four corners (XOR)", spirals: "three spirals" };
const SHORT = { digits: "Digits", moons: "Two moons", circles: "Two circles", xor: "Four corners", spirals: "Three spirals" };
const most = (settings) => (settings.world === "digits" ? 300 : 1000);
const MOST_EPOCHS = 1000;
const STOP_AT_LOSS = { stop_loss: 0.3, epochs: MOST_EPOCHS }; // how a reader begins who chooses to stop at a training loss

// The stops of a slider: round numbers, so that every setting that a sentence names is one of them.
const ROUND = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
const decades = (low, high, mantissas = ROUND) => {
  const all = [];
  for (let e = Math.floor(Math.log10(low)); 10 ** e <= high; e++) for (const m of mantissas) all.push(Number((m * 10 ** e).toPrecision(2)));
  return all.filter((v) => v >= low && v <= high);
};
const whole = (low, high) => [...new Set([...decades(low, high).filter(Number.isInteger), 7, 9, high])].filter((v) => v >= low && v <= high).sort((a, b) => a - b);
const steps = (low, high, step) => Array.from({ length: Math.round((high - low) / step) + 1 }, (_, i) => Number((low + step * i).toPrecision(6)));

const CONTROLS = {
  batch_size: { label: "batch size", stops: (settings) => whole(1, settings.n) },
  lr: { label: "learning rate", stops: () => decades(0.001, 2) },
  stop_loss: { label: "training loss", stops: () => decades(0.001, 2, [1, 2, 3, 5]), text: (v) => (v === 0 ? "off" : format(v)) },
  epochs: { label: "epochs", stops: () => whole(1, MOST_EPOCHS) },
  momentum: { label: "momentum", stops: () => steps(0, 0.95, 0.05) },
  width: { label: "hidden units", stops: () => [2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64] },
  n: { label: "examples n", stops: (settings) => whole(20, most(settings)) },
  label_noise: { label: "label noise", stops: () => steps(0, 0.6, 0.05), text: percent },
  temperature: { label: "Langevin noise", stops: () => [0, ...decades(1e-6, 0.1, [1, 2, 3, 5])], text: (v) => (v === 0 ? "off" : format(v, 2)) },
  toy_noise: { label: "spread of classes", stops: () => steps(0, 0.6, 0.02) },
};

const isNumber = (value) => value !== null && String(value).trim() !== "" && Number.isFinite(Number(value));

// A setting from anywhere, made one that can be trained; the default where a value is no number.
function sane(given) {
  const settings = { ...DEFAULTS_OF_ENGINE };
  for (const [key, value] of Object.entries(given ?? {})) {
    if (key === "world") settings.world = Object.hasOwn(WORLDS, value) ? value : settings.world;
    else if (Object.hasOwn(settings, key) && isNumber(value)) settings[key] = Number(value);
  }
  const within = (v, low, high) => Math.min(Math.max(v, low), high);
  settings.n = within(Math.round(settings.n), 20, most(settings));
  settings.batch_size = within(Math.round(settings.batch_size), settings.temperature > 0 ? 2 : 1, settings.n);
  settings.epochs = within(Math.round(settings.epochs), 1, MOST_EPOCHS);
  settings.width = within(Math.round(settings.width), 1, 256);
  settings.lr = within(settings.lr, 1e-5, 10);
  settings.momentum = within(settings.momentum, 0, 0.99);
  settings.label_noise = within(settings.label_noise, 0, 1);
  settings.temperature = within(settings.temperature, 0, 1);
  if (settings.temperature > 0) settings.momentum = 0; // Langevin's steps have none
  settings.toy_noise = within(settings.toy_noise, 0, 2);
  // the certificate of noisy steps is for a number of steps that no loss has chosen
  settings.stop_loss = settings.temperature > 0 ? 0 : within(settings.stop_loss, 0, 10);
  settings.seed = within(Math.round(settings.seed), 0, 2 ** 32 - 1);
  return settings;
}

// Why a name is none of a setting: the control has another one in addresses and in Python, or there is none.
function calledHere(key) {
  const plain = (text) => text.toLowerCase().replace(/[^a-z]/g, "");
  const found = Object.entries(CONTROLS).find(([name, { label }]) => [name, label].some((one) => plain(one) === plain(key)));
  return found ? `is written ${found[0]}` : "is the name of no setting";
}

// What a value became, and why, in words; "" where it was taken as it is.
function becameOf(key, value, taken) {
  if (!Object.hasOwn(taken, key)) return `“${key.slice(0, 20)}” ${calledHere(key)} and was left out`;
  const now = taken[key];
  if (String(value).trim() === String(now) || (isNumber(value) && Number(value) === now)) return "";
  if (key === "world") return `world “${String(value).slice(0, 20)}” is none and became ${now}`;
  const name = CONTROLS[key]?.label ?? key;
  if (!isNumber(value)) return `${name} “${String(value).slice(0, 20)}” is no number and became ${format(now, 10)}`;
  if (taken.temperature > 0 && key === "momentum") return "momentum became 0, for Langevin's steps have none";
  if (taken.temperature > 0 && key === "stop_loss") return "no training loss stops noisy steps, for their certificate is for a number of steps that is fixed beforehand";
  if (key === "batch_size" && now === taken.n && Number(value) > now) return `${name} ${value} became ${now}, for there are no more examples`;
  if (Math.round(Number(value)) === now) return `${name} ${value} became the whole number ${now}`;
  return `${name} ${value} is out of range and became ${format(now, 10)}`;
}

// What of a setting from anywhere could not be taken as it was given, in words; "" where all of it was.
function refused(given) {
  const taken = sane(given);
  const words = Object.entries(given ?? {}).map(([key, value]) => becameOf(key, value, taken)).filter(Boolean);
  return words.length ? `Not every setting can be trained: ${words.join("; ")}.` : "";
}

const MARK = "#lab?";

function toAddress(settings, view) {
  const changed = Object.entries(settings).filter(([key, value]) => value !== DEFAULTS_OF_ENGINE[key]);
  const parts = [...changed, ...Object.entries(view)].map(([key, value]) => `${key}=${value}`);
  return MARK + parts.join("&");
}

// The view of an address, {lam, stretch} where they are ones, and a sentence on those that are none.
function viewFrom({ lam, stretch }) {
  const [view, words] = [{}, []];
  if (isNumber(lam ?? null) && Object.hasOwn(LAMBDAS_OF_ENGINE, Number(lam))) view.lam = Number(lam);
  else if (lam !== undefined) words.push(`lam ${lam.slice(0, 20)} is none of 0 to ${LAMBDAS_OF_ENGINE.length - 1}`);
  const [low, high] = [STRETCH.value(0), STRETCH.value(STRETCH.steps)];
  if (Number(stretch) >= low && Number(stretch) <= high) view.stretch = Number(stretch);
  else if (stretch !== undefined) words.push(`stretch ${stretch.slice(0, 20)} is none from ${format(low)} to ${format(high)}`);
  return { view, refused: words.length ? `${words.join("; ")}: left as it was.` : "" };
}

function fromAddress(hash) {
  if (!hash.startsWith(MARK)) return null;
  const { lam, stretch, ...parts } = Object.fromEntries(new URLSearchParams(hash.slice(MARK.length)));
  const seen = viewFrom({ lam, stretch });
  return { settings: sane(parts), view: seen.view, refused: [refused(parts), seen.refused].filter(Boolean).join(" ") };
}

// The cell that repeats a run with the package.
function asPython(settings) {
  const { world, ...rest } = settings;
  const given = Object.entries(rest).filter(([key, value]) => value !== DEFAULTS_OF_ENGINE[key]).map(([key, value]) => `${key}=${value}`);
  return `import torch
from helpers.widgets.laboratory import replay

torch.set_num_threads(1)  # small networks run faster on one thread than on many
done = replay(${[`"${world}"`, ...given].join(", ")})
bounds = done.measure(value_rtol=1e-9)  # traces in full, as on the page
bounds["gap"], bounds["closed_form"], bounds["omniscient"]`;
}

// One slider with its label and its value in words; `changed` is called with the key and the new value. A value that is no
// stop of it, from an address or from Python, becomes one.
function slider(key, uid, settings, changed) {
  const control = CONTROLS[key];
  const id = `${uid}-${key}`;
  const given = new Set();
  const input = make("input", { id, type: "range", min: 0, step: 1 });
  input.dataset.lmSuppressShortcuts = "true"; // JupyterLab's command mode would take the arrow keys
  const output = make("output", { for: id, "aria-live": "off" });
  const label = make("label", { for: id }, control.label);
  const stopsAt = (current) => {
    const stops = control.stops(current);
    if (!stops.includes(current[key])) given.add(current[key]);
    return [...new Set([...stops, ...[...given].filter((v) => v === current[key] || (v > stops[0] && v < stops.at(-1)))])].sort((a, b) => a - b);
  };
  let text = null;
  const update = (current) => {
    const stops = stopsAt(current);
    input.max = stops.length - 1;
    input.value = stops.indexOf(current[key]);
    const words = (control.text ?? format)(current[key]);
    if (words === text) return;
    text = words;
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  };
  input.addEventListener("input", () => changed(key, stopsAt(settings())[Number(input.value)]));
  return { update, input, label, node: make("div", { class: "lab-control" }, label, input, output) };
}
