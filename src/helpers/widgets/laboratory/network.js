// ---- a network with one hidden layer of ReLU units, and the derivatives of its clipped cross-entropy --------------------------
// W is a Float64Array (d) in the order of torch: weight (hidden, inputs) and bias of the first layer, then of the second.
// A clipped example costs the clip and has neither gradient nor curvature (helpers.losses.ClippedCrossEntropy).

function makeShape(inputs, hidden, classes) {
  const b1 = hidden * inputs;
  const W2 = b1 + hidden;
  const b2 = W2 + classes * hidden;
  return { inputs, hidden, classes, b1, W2, b2, d: b2 + classes };
}

// uniform in +-1/sqrt(inputs of the layer), as torch.nn.Linear
function initial(shape, next) {
  const W = new Float64Array(shape.d);
  for (let i = 0; i < shape.d; i++) W[i] = (2 * uniform(next) - 1) / Math.sqrt(i < shape.W2 ? shape.inputs : shape.hidden);
  return W;
}

// sum_i a[i + from] b[i + start], i < count: four sums at once, which do not wait for each other
function dot(a, from, b, start, count) {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0, i = 0;
  for (; i + 3 < count; i += 4) {
    s0 += a[from + i] * b[start + i];
    s1 += a[from + i + 1] * b[start + i + 1];
    s2 += a[from + i + 2] * b[start + i + 2];
    s3 += a[from + i + 3] * b[start + i + 3];
  }
  for (; i < count; i++) s0 += a[from + i] * b[start + i];
  return s0 + s1 + (s2 + s3);
}

// out = M x for the matrix M (rows, count) that begins at W[from]: four rows at once, which read x once
function products(W, from, rows, count, x, start, out) {
  let j = 0;
  for (; j + 3 < rows; j += 4) {
    const at = from + j * count;
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (let i = 0, p0 = at, p1 = at + count, p2 = at + 2 * count, p3 = at + 3 * count; i < count; i++, p0++, p1++, p2++, p3++) {
      const v = x[start + i];
      s0 += W[p0] * v;
      s1 += W[p1] * v;
      s2 += W[p2] * v;
      s3 += W[p3] * v;
    }
    out[j] = s0;
    out[j + 1] = s1;
    out[j + 2] = s2;
    out[j + 3] = s3;
  }
  for (; j < rows; j++) out[j] = dot(W, from + j * count, x, start, count);
}

function add(target, at, factor, source, start, count) {
  for (let i = 0; i < count; i++) target[at + i] += factor * source[start + i];
}

const scratch = (shape) => ({
  a: new Float64Array(shape.hidden), h: new Float64Array(shape.hidden), Ra: new Float64Array(shape.hidden),
  p: new Float64Array(shape.classes), delta: new Float64Array(shape.classes), Rz: new Float64Array(shape.classes),
});

// Activations a and class probabilities p of the example that begins at x[start]; returns its cross-entropy with class y.
function forward(shape, W, x, start, y, { a, p }) {
  const { inputs, hidden, classes, b1, W2, b2 } = shape;
  products(W, 0, hidden, inputs, x, start, a);
  for (let j = 0; j < hidden; j++) {
    const s = a[j] + W[b1 + j];
    a[j] = s > 0 ? s : 0;
  }
  let largest = -Infinity;
  products(W, W2, classes, hidden, a, 0, p);
  for (let c = 0; c < classes; c++) {
    p[c] += W[b2 + c];
    if (p[c] > largest) largest = p[c];
  }
  const logit = p[y];
  let total = 0;
  for (let c = 0; c < classes; c++) total += p[c] = Math.exp(p[c] - largest);
  for (let c = 0; c < classes; c++) p[c] /= total;
  return largest + Math.log(total) - logit;
}

// h = (W2^T delta) where the unit is active: the derivative of sum_c delta_c z_c in the first layer's outputs.
function backward({ hidden, classes, W2 }, W, delta, a, h) {
  h.fill(0);
  for (let c = 0; c < classes; c++) add(h, 0, delta[c], W, W2 + c * hidden, hidden);
  for (let j = 0; j < hidden; j++) if (a[j] <= 0) h[j] = 0;
}

// Adds factor times the outer products that are the gradient of sum_c delta_c z_c.
function outer({ inputs, hidden, classes, b1, W2, b2 }, out, factor, delta, a, h, x, start) {
  for (let c = 0; c < classes; c++) {
    add(out, W2 + c * hidden, factor * delta[c], a, 0, hidden);
    out[b2 + c] += factor * delta[c];
  }
  for (let j = 0; j < hidden; j++) {
    if (h[j] === 0) continue;
    add(out, j * inputs, factor * h[j], x, start, inputs);
    out[b1 + j] += factor * h[j];
  }
}

// Values and 0–1 errors of every example: {losses, errors}, Float64Array(n) each.
function values(shape, W, sample, clip = Infinity) {
  const room = scratch(shape);
  const [losses, errors] = [new Float64Array(sample.n), new Float64Array(sample.n)];
  for (let i = 0; i < sample.n; i++) {
    losses[i] = Math.min(forward(shape, W, sample.x, i * shape.inputs, sample.y[i], room), clip);
    let best = 0;
    for (let c = 1; c < shape.classes; c++) if (room.p[c] > room.p[best]) best = c;
    errors[i] = best === sample.y[i] ? 0 : 1;
  }
  return { losses, errors };
}

// The mean gradient over the examples order[from], ..., order[to - 1], into out (d); returns the mean loss.
function batch_gradient(shape, W, sample, order, from, to, out, clip = Infinity, room = scratch(shape)) {
  out.fill(0);
  const { a, p, h } = room;
  let loss = 0;
  for (let t = from; t < to; t++) {
    const i = order[t];
    const start = i * shape.inputs;
    const value = forward(shape, W, sample.x, start, sample.y[i], room);
    loss += Math.min(value, clip);
    if (value >= clip) continue;
    p[sample.y[i]] -= 1;
    backward(shape, W, p, a, h);
    outer(shape, out, 1 / (to - from), p, a, h, sample.x, start);
  }
  return loss / (to - from);
}

const everyone = (sample) => Int32Array.from({ length: sample.n }, (_, i) => i);

const curvature = {
  gradient(shape, W, sample, clip) {
    const out = new Float64Array(shape.d);
    batch_gradient(shape, W, sample, everyone(sample), 0, sample.n, out, clip);
    return out;
  },

  // H v for the mean loss: the derivative of the gradient along v, carried beside it (Pearlmutter's R-operator).
  hvp(shape, W, sample, v, clip) {
    const { inputs, hidden, classes, b1, W2, b2 } = shape;
    const room = scratch(shape);
    const { a, p, h, Ra, Rz, delta } = room;
    const Rh = new Float64Array(hidden);
    const out = new Float64Array(shape.d);
    for (let i = 0; i < sample.n; i++) {
      const start = i * inputs;
      if (forward(shape, W, sample.x, start, sample.y[i], room) >= clip) continue;
      products(v, 0, hidden, inputs, sample.x, start, Ra);
      for (let j = 0; j < hidden; j++) Ra[j] = a[j] > 0 ? Ra[j] + v[b1 + j] : 0;
      let mean = 0;
      for (let c = 0; c < classes; c++) {
        Rz[c] = dot(W, W2 + c * hidden, Ra, 0, hidden) + dot(v, W2 + c * hidden, a, 0, hidden) + v[b2 + c];
        mean += p[c] * Rz[c];
      }
      for (let c = 0; c < classes; c++) {
        delta[c] = p[c] - (c === sample.y[i] ? 1 : 0);
        Rz[c] = p[c] * (Rz[c] - mean); // now the derivative of delta
      }
      backward(shape, v, delta, a, h);
      backward(shape, W, Rz, a, Rh);
      for (let j = 0; j < hidden; j++) Rh[j] += h[j];
      outer(shape, out, 1 / sample.n, Rz, a, Rh, sample.x, start);
      for (let c = 0; c < classes; c++) add(out, W2 + c * hidden, delta[c] / sample.n, Ra, 0, hidden);
    }
    return out;
  },

  // Tr H, exact: every single weight enters the outputs piecewise affinely, so the diagonals of the Hessian and of the
  // Gauss-Newton matrix agree, and Tr H = E sum_c p_c |grad log p_c|^2 = E[(1 - |p|^2)(1 + |a|^2) + sum_j Var_p(W2_j)(1 + |x|^2)],
  // j over the active units, W2_j the weights that leave unit j.
  // Fills `losses`, where it is given, with the losses that it meets on the way.
  trace(shape, W, sample, clip, losses = null) {
    const { inputs, hidden, classes, W2 } = shape;
    const room = scratch(shape);
    const { a, p } = room;
    let sum = 0;
    for (let i = 0; i < sample.n; i++) {
      const start = i * inputs;
      const value = forward(shape, W, sample.x, start, sample.y[i], room);
      if (losses !== null) losses[i] = Math.min(value, clip);
      if (value >= clip) continue;
      let variances = 0;
      for (let j = 0; j < hidden; j++) {
        if (a[j] <= 0) continue;
        let [mean, squares] = [0, 0];
        for (let c = 0; c < classes; c++) {
          const w = W[W2 + c * hidden + j];
          mean += p[c] * w;
          squares += p[c] * w * w;
        }
        variances += squares - mean * mean;
      }
      sum += (1 - dot(p, 0, p, 0, classes)) * (1 + dot(a, 0, a, 0, hidden))
        + variances * (1 + dot(sample.x, start, sample.x, start, inputs));
    }
    return sum / sample.n;
  },
};
