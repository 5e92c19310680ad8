/* Formulas that are wider than their place are broken before relations and sums, and what then is still too wide is set
   smaller. MathJax 3 does neither. A reader of a narrow window sees each formula whole. */
(() => {
  "use strict";
  const RELATIONS = "=≤≥<>≈≲≳∼≡→⇒⇔∝∈≪≫:⟺⟹";
  const SUMS = "+−±";
  const operator = (part) => {
    const mo = part.matches?.("mjx-mo") ? part : part.matches?.("mjx-TeXAtom, mjx-texatom") ? part.querySelector("mjx-mo") : null;
    const code = mo?.querySelector("mjx-c")?.className.match(/mjx-c([0-9A-F]+)/)?.[1];
    return code ? String.fromCodePoint(parseInt(code, 16)) : "";
  };
  // The row of parts that the formula consists of, below wrappers with one child.
  const row = (math) => {
    let at = math;
    while (at.children.length === 1 && at.firstElementChild.matches("mjx-mrow, mjx-mstyle, mjx-semantics, mjx-texatom")) {
      at = at.firstElementChild;
    }
    return at;
  };

  // Wrap the parts between two places for a break, so that a line ends only there: once for each formula.
  const cutIntoPieces = (container) => {
    if (container.dataset.pieces) return Number(container.dataset.pieces);
    const parent = row(container.querySelector("mjx-math"));
    const pieces = [];
    let depth = 0;
    for (const part of [...parent.children]) {
      const sign = operator(part);
      // What stands behind a space is a statement of its own: "A = ..." stays together up to its first relation.
      const last = pieces[pieces.length - 1];
      const first = last?.dataset.statement === "begins" && RELATIONS.includes(sign) && sign !== "";
      if (first) last.dataset.statement = "goes on";
      const breaks = depth === 0 && pieces.length > 0 && sign !== "" && !first && (RELATIONS + SUMS).includes(sign);
      const comma = depth === 0 && pieces.length > 0 && pieces[pieces.length - 1].dataset.closed === "yes";
      if (!pieces.length || breaks || comma || part.matches("mjx-mspace")) {
        pieces.push(document.createElement("mjx-piece"));
        parent.append(pieces[pieces.length - 1]);
        if (part.matches("mjx-mspace") || comma) pieces[pieces.length - 1].dataset.statement = "begins";
      }
      if ("([{⟨".includes(sign) && sign) depth += 1;
      if (")]}⟩".includes(sign) && sign) depth = Math.max(0, depth - 1);
      if (depth === 0 && (sign === "," || sign === ";")) pieces[pieces.length - 1].dataset.closed = "yes";
      pieces[pieces.length - 1].append(part);
    }
    container.dataset.pieces = String(pieces.length);
    return pieces.length;
  };

  const room = (container) => {
    const block = container.closest("p, li, dd, dt, td, th, figcaption, summary, div.math") ?? container.parentElement;
    const style = getComputedStyle(block);
    const number = block.querySelector(":scope > .eqno");
    const taken = number ? number.offsetWidth + 16 : 0;
    return block.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - taken;
  };
  const width = (container) => {
    const parts = [...container.querySelectorAll(":scope > mjx-math, :scope > mjx-math mjx-mtable, mjx-labels")];
    const left = Math.min(...parts.map((part) => part.getBoundingClientRect().left));
    return Math.max(...parts.map((part) => part.getBoundingClientRect().right)) - left;
  };
  const fit = (container) => {
    container.classList.remove("broken");
    container.style.fontSize = container.dataset.size ??= container.style.fontSize;
    const comma = container.closest(".closed-up") ? 12 : 0;
    const available = Math.floor(room(container)) - 1 - comma;
    if (available <= 0 || width(container) <= available) return;
    if (cutIntoPieces(container) > 1) container.classList.add("broken");
    const pieces = [...container.querySelectorAll("mjx-piece")];
    const indent = pieces.length > 1 && container.hasAttribute("display") ? 1.5 * parseFloat(getComputedStyle(container).fontSize) : 0;
    const widest = pieces.length > 1 ? Math.max(...pieces.map((piece) => piece.scrollWidth)) + indent : width(container);
    if (widest > available) {
      const size = parseFloat(getComputedStyle(container).fontSize);
      container.style.fontSize = `${((size * available) / widest - 0.05).toFixed(2)}px`;
    }
  };
  // A comma after a formula does not begin a line.
  const keepPunctuation = (container) => {
    const formula = container.closest("span.math") ?? container;
    const after = formula.nextSibling;
    const sign = after?.nodeType === Node.TEXT_NODE ? after.data.match(/^[,.;:!?)]+/)?.[0] : undefined;
    if (!sign || container.hasAttribute("display")) return;
    const together = document.createElement("span");
    together.className = "closed-up";
    formula.before(together);
    after.data = after.data.slice(sign.length);
    together.append(formula, sign);
  };
  const fitAll = (root = document) => {
    for (const container of root.querySelectorAll(".bd-article mjx-container")) {
      if (container.getClientRects().length > 0) fit(container);
    }
  };

  let last = -1;
  const start = async () => {
    await window.MathJax?.startup?.promise;
    document.querySelectorAll(".bd-article mjx-container").forEach(keepPunctuation);
    fitAll();
    const article = document.querySelector(".bd-article");
    if (!article) return;
    last = article.clientWidth;
    new ResizeObserver(() => {
      if (article.clientWidth === last) return;
      last = article.clientWidth;
      fitAll();
    }).observe(article);
    // What was folded had no width to fit.
    document.addEventListener("toggle", () => fitAll(), true);
    article.addEventListener("click", (event) => {
      if (event.target.closest(".toggle, .toggle-button, .admonition-title")) requestAnimationFrame(() => fitAll());
    });
  };
  window.addEventListener("load", start);
})();
