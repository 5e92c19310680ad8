
// ---- the dice (helpers.widgets.dice): a distribution to be drawn by hand ----------------------------------------------------
// One slider for each face, and a last one that uncovers the best answer. Bars are weights, so that a dragged one follows
// the pointer; the probability stands above it.

function weighed(chart, position) {
  const weights = position.slice(0, chart.prior.length).map((i) => chart.weights[i]);
  const total = weights.reduce((a, b) => a + b, 0);
  const p = weights.map((w) => w / total);
  const gain = p.reduce((sum, q, i) => sum + q * chart.values[i], 0);
  const price = p.reduce((sum, q, i) => sum + (q > 0 ? q * Math.log(q / chart.prior[i]) : 0), 0);
  return { weights, p, gain, price, left: gain - price };
}

function drawDice(svg, chart, position, log, width, uid) {
  const box = { ...frameOf(width), top: 46 };
  const most = chart.weights[chart.weights.length - 1];
  const { weights, p, left } = weighed(chart, position);
  const top = greatest(chart.gibbs); // the best answer's highest bar stands at the greatest weight
  const y = scale([0, most * 1.12], [box.bottom, box.top], false);
  const slot = (box.right - box.left) / p.length;
  const middle = (i) => box.left + slot * (i + 0.5);
  axes(svg, box, null, y, chart, chart.faces.map((face, i) => [middle(i), face]));
  const inner = innerLayer(svg, box, uid);
  svg.prepend(make("defs", {}, ...textures(uid)));
  // The strip on top: how much of what can be had has been had.
  const along = scale([0, chart.best], [box.left, box.right], false);
  const end = Math.max(box.left, along(left));
  svg.append(make("rect", { x: box.left, width: box.right - box.left, y: 8, height: 14, class: "fi-key", fill: "none" }));
  svg.append(make("rect", { x: box.left, width: end - box.left, y: 8, height: 14, fill: `url(#${uid}-p2)`, class: "fi-term" }));
  svg.append(make("text", { x: box.right, y: 36, "text-anchor": "end" }, `${format(left)} of at most ${format(chart.best)} nats`));
  weights.forEach((w, i) => {
    const size = { x: middle(i) - slot * 0.32, width: slot * 0.64, y: y(w), height: y(0) - y(w) };
    inner.append(make("rect", { ...size, fill: `url(#${uid}-p0)`, class: "fi-term", "data-face": i }));
    inner.append(make("text", { x: middle(i), y: y(w) - 5, "text-anchor": "middle" }, p[i].toFixed(2)));
    if (position[p.length] === 1) inner.append(glyph(1, middle(i), y((chart.gibbs[i] / top) * most), true));
  });
  return {
    // Which slider a pointer moves, and to which stop.
    drag(px, py) {
      const face = Math.max(0, Math.min(p.length - 1, Math.floor((px - box.left) / slot)));
      const wanted = ((box.bottom - py) / (box.bottom - box.top)) * most * 1.12;
      const far = chart.weights.map((w) => Math.abs(w - wanted));
      return [face, far.indexOf(Math.min(...far))];
    },
  };
}

function diceWords(chart, position) {
  const { gain, price, left } = weighed(chart, position);
  const short = `short of the best by ${format(chart.best - left)}`;
  const uncovered = position[chart.prior.length] === 1;
  const answer = uncovered ? ` The best: ${chart.gibbs.map((q) => q.toFixed(2)).join(", ")}.` : "";
  return `Gain ${format(gain)}, price ${format(price)}, difference ${format(left)} nats; ${short}.${answer}`;
}

function diceTable(chart, position) {
  const { p } = weighed(chart, position);
  const rows = chart.faces.map((face, i) => [face, format(chart.prior[i]), format(p[i])]);
  return { head: [chart.x.label, "prior", "yours"], rows };
}

function diceKey(i, uid) {
  if (i === 1) return [glyph(1, 17, 7, true)];
  return [make("rect", { x: 4, y: 1, width: 26, height: 12, fill: `url(#${uid}-p${i})` })];
}

KINDS.dice = { box: frameOf, draw: drawDice, words: diceWords, table: diceTable, key: diceKey, log: false };
