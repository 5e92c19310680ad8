// ---- worlds: what is learned. A sample is {x: Float64Array(n inputs), y: Int32Array(n), n} ------------------------------------

const CLASSES = { digits: 10, moons: 2, circles: 2, xor: 2, spirals: 3 };
const INPUTS = { digits: 64, moons: 2, circles: 2, xor: 2, spirals: 2 };
const POOL = 1297; // digits to train and choose on; the other 500 are the test set

// Digits come as text: two characters of a base of 91 hold three numbers below 17; an image is 64 grey levels and its class.
function unpack(text) {
  const numbers = new Uint8Array((text.length / 2) * 3);
  const digit = (i) => { const code = text.charCodeAt(i) - 35; return code > 57 ? code - 1 : code; }; // no backslash
  for (let i = 0, j = 0; i < text.length; i += 2, j += 3) {
    const packed = digit(i) * 91 + digit(i + 1);
    numbers[j] = Math.floor(packed / 289);
    numbers[j + 1] = Math.floor(packed / 17) % 17;
    numbers[j + 2] = packed % 17;
  }
  return numbers;
}

// All digits, standardised by mean and standard deviation (ddof 1) of the pool's pixels.
function digits(text) {
  const numbers = unpack(text);
  const n = Math.floor(numbers.length / 65);
  const [x, y] = [new Float64Array(n * 64), new Int32Array(n)];
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < 64; j++) x[i * 64 + j] = numbers[i * 65 + j];
    y[i] = numbers[i * 65 + 64];
  }
  const count = POOL * 64;
  let [sum, squares] = [0, 0];
  for (let i = 0; i < count; i++) { sum += x[i]; squares += x[i] * x[i]; } // integers: both sums are exact
  const mean = sum / count;
  const deviation = Math.sqrt((squares - (sum * sum) / count) / (count - 1));
  for (let i = 0; i < x.length; i++) x[i] = (x[i] - mean) / deviation;
  return { x, y, n };
}

// One example of a toy: class, then place, then noise of the given standard deviation.
const TOYS = {
  moons(next, c) {
    const t = Math.PI * uniform(next);
    return c === 0 ? [Math.cos(t) - 0.5, Math.sin(t) - 0.25] : [0.5 - Math.cos(t), 0.25 - Math.sin(t)];
  },
  circles(next, c) {
    const t = 2 * Math.PI * uniform(next);
    const radius = c === 0 ? 0.5 : 1.1;
    return [radius * Math.cos(t), radius * Math.sin(t)];
  },
  xor(next, c) {
    const [u, v] = [2 * uniform(next) - 1, 2 * uniform(next) - 1];
    return [u, (u >= 0) === (c === 0) ? Math.abs(v) : -Math.abs(v)];
  },
  spirals(next, c) {
    const t = uniform(next);
    const angle = 4 * t + (2 * Math.PI * c) / 3;
    return [1.4 * t * Math.cos(angle), 1.4 * t * Math.sin(angle)];
  },
};

function toy(name, n, noise, next) {
  const [x, y] = [new Float64Array(2 * n), new Int32Array(n)];
  for (let i = 0; i < n; i++) {
    y[i] = below(next, CLASSES[name]);
    const [u, v] = TOYS[name](next, y[i]);
    x[2 * i] = u + noise * normal(next);
    x[2 * i + 1] = v + noise * normal(next);
  }
  return { x, y, n };
}

function take({ x, y }, rows) {
  const inputs = x.length / y.length;
  const chosen = { x: new Float64Array(rows.length * inputs), y: new Int32Array(rows.length), n: rows.length };
  rows.forEach((row, i) => {
    chosen.x.set(x.subarray(row * inputs, (row + 1) * inputs), i * inputs);
    chosen.y[i] = y[row];
  });
  return chosen;
}

// Every label is replaced by a uniform one with probability `share`. All roles are noisy: training and test are one law.
function with_label_noise(sample, share, classes, next) {
  const y = sample.y.map((label) => {
    const replaced = uniform(next) < share;
    const other = below(next, classes);
    return replaced ? other : label;
  });
  return { ...sample, y };
}

const HELD_OUT = { val: 250, val2: 250, test: 1000 }; // examples of a toy's other roles

// The roles of one world: k disjoint training samples of n examples, val, val2 and test. `all` is digits(text), or null.
function roles({ world, k, n, toy_noise, label_noise, seed }, all) {
  const next = makeGenerator(seed, STREAMS.data);
  let [train, val, val2, test] = [[], null, null, null];
  if (world === "digits") {
    const order = permutation(next, POOL);
    const rest = Math.floor((POOL - k * n) / 2);
    for (let i = 0; i < k; i++) train.push(take(all, order.subarray(i * n, (i + 1) * n)));
    val = take(all, order.subarray(k * n, k * n + rest));
    val2 = take(all, order.subarray(k * n + rest, k * n + 2 * rest));
    test = take(all, Int32Array.from({ length: all.n - POOL }, (_, i) => POOL + i));
  } else {
    for (let i = 0; i < k; i++) train.push(toy(world, n, toy_noise, next));
    [val, val2, test] = ["val", "val2", "test"].map((role) => toy(world, HELD_OUT[role], toy_noise, next));
  }
  const labels = makeGenerator(seed, STREAMS.labels);
  const noisy = (sample) => with_label_noise(sample, label_noise, CLASSES[world], labels);
  return { train: train.map(noisy), val: noisy(val), val2: noisy(val2), test: noisy(test) };
}
