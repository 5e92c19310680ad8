// ---- random numbers: PCG32 (O'Neill 2014), the same as helpers.widgets.laboratory.generator, number for number -----------
// state' = state * 6364136223846793005 + 2 stream + 1 modulo 2^64, kept as two halves of 32 bits; what comes out is a
// rotation of the old state. A stream is a sequence of its own: data, weights, orders and noise do not disturb each other.

const STREAMS = { data: 1, labels: 2, weights: 3, orders: 100, noise: 200, directions: 300 };

function makeGenerator(seed, stream) {
  let high = 0;
  let low = 0;
  const increment = 2 * stream + 1;

  function advance() {
    // low * 0x4c957f2d in halves of 16 bits; what lies above 2^64 falls away
    const a = low >>> 16;
    const b = low & 0xffff;
    const middle = a * 0x7f2d + b * 0x4c95 + ((b * 0x7f2d) >>> 16);
    const carry = Math.floor(middle / 65536) + a * 0x4c95;
    const lowest = (((middle & 0xffff) << 16) | ((b * 0x7f2d) & 0xffff)) >>> 0;
    const sum = lowest + increment;
    high = (carry + Math.imul(low, 0x5851f42d) + Math.imul(high, 0x4c957f2d) + (sum > 0xffffffff ? 1 : 0)) >>> 0;
    low = sum >>> 0;
  }

  function next() {
    const oldHigh = high;
    const oldLow = low;
    advance();
    // ((old >> 18) ^ old) >> 27, its lowest 32 bits
    const mixedHigh = (oldHigh >>> 18) ^ oldHigh;
    const mixedLow = ((oldLow >>> 18) | (oldHigh << 14)) ^ oldLow;
    const shifted = ((mixedLow >>> 27) | (mixedHigh << 5)) >>> 0;
    const turn = oldHigh >>> 27;
    return ((shifted >>> turn) | (shifted << (-turn & 31))) >>> 0;
  }

  advance();
  const sum = low + (seed >>> 0);
  low = sum >>> 0;
  high = (high + (sum > 0xffffffff ? 1 : 0)) >>> 0;
  advance();
  return next;
}

const uniform = (next) => (next() + 0.5) / 4294967296; // in (0, 1)
const below = (next, n) => Math.floor((next() * n) / 4294967296); // 0, ..., n - 1, each with probability 1/n up to n / 2^32

// Box and Muller: one normal number for two uniform ones.
function normal(next) {
  const radius = Math.sqrt(-2 * Math.log(uniform(next)));
  return radius * Math.cos(2 * Math.PI * uniform(next));
}

// Fisher and Yates.
function permutation(next, n) {
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = below(next, i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
