/* What a reader of this page cannot see whole at the present width: one line for each thing, empty where nothing is cut. */
() => {
  const SLACK = 1.5; // pixels; boxes are rounded
  const article = document.querySelector(".bd-article") || document.body;
  const phone = window.innerWidth < 600;
  const shown = (element) => element.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true }) && element.getClientRects().length > 0;
  const words = (element) => element.textContent.replace(/\s+/g, " ").trim().slice(0, 60);
  const found = [];
  const cut = (kind, element, pixels) => found.push(`${kind} by ${Math.round(pixels)} px: ${words(element)}`);

  // The inner edge on the right of the block that an element stands in.
  const BLOCKS = "p, li, dd, dt, td, th, figcaption, summary, h1, h2, h3, h4, .admonition-title, .cell_output, .bd-article";
  const edge = (element) => {
    const block = element.parentElement.closest(BLOCKS) || article;
    const style = getComputedStyle(block);
    return block.getBoundingClientRect().right - parseFloat(style.borderRightWidth);
  };
  const formulas = (container) => [...container.querySelectorAll("mjx-math, mjx-piece, mjx-mtable, mjx-mlabeledtr, mjx-labels")];
  for (const container of article.querySelectorAll("mjx-container")) {
    if (!shown(container)) continue;
    const display = container.hasAttribute("display");
    const box = display ? (container.closest("div.math") || container).getBoundingClientRect() : null;
    const column = article.getBoundingClientRect();
    const right = display ? Math.min(box.right, column.right) : edge(container);
    const left = display ? Math.max(box.left, column.left) : 0;
    const parts = [container, ...formulas(container)].flatMap((part) => [...part.getClientRects()]);
    const over = Math.max(0, ...parts.map((part) => Math.max(part.right - right, left - part.left)));
    const hidden = display ? Math.max(0, container.scrollWidth - container.clientWidth) : 0;
    const name = display ? "displayed formula" : "inline formula";
    if (Math.max(over, hidden) > SLACK) {
      found.push(`${name} by ${Math.round(Math.max(over, hidden))} px: ${container.querySelector("mjx-assistive-mml")?.textContent.replace(/\s+/g, " ").slice(0, 60) ?? ""}`);
    }
    if (container.querySelector("mjx-math > *") && Math.max(...parts.map((part) => part.width)) < 1) {
      found.push(`${name} that is not seen: ${words(container.parentElement)}`);
    }
    const size = parseFloat(getComputedStyle(container).fontSize);
    if (size < 10) found.push(`${name} set in ${size.toFixed(1)} px`);
  }
  for (const pre of article.querySelectorAll("pre")) {
    if (!shown(pre)) continue;
    const output = pre.closest(".cell_output") !== null;
    if (phone && !output) continue; // code may scroll on a phone
    if (pre.scrollWidth - pre.clientWidth > SLACK) cut(output ? "output" : "code", pre, pre.scrollWidth - pre.clientWidth);
  }
  const holders = "h1, h2, h3, h4, table, figcaption, .pst-scrollable-table-container, .text_html, .cell_output, figure, p, dl, ul, ol, .admonition, .sd-card, details";
  for (const element of article.querySelectorAll(holders)) {
    if (!shown(element) || element.closest(".fi, mjx-container, .widget-fallback")) continue;
    const scrolls = getComputedStyle(element).overflowX !== "visible";
    const over = scrolls ? element.scrollWidth - element.clientWidth : element.getBoundingClientRect().right - edge(element);
    if (over > SLACK) cut(element.tagName.toLowerCase() + (element.className ? `.${String(element.className).split(" ")[0]}` : ""), element, over);
  }
  for (const picture of article.querySelectorAll("img, .fi svg")) {
    if (!shown(picture)) continue;
    const over = picture.getBoundingClientRect().right - edge(picture);
    if (over > SLACK) found.push(`picture by ${Math.round(over)} px: ${picture.getAttribute("alt") ?? picture.querySelector("title")?.textContent ?? ""}`.slice(0, 100));
  }
  return [...new Set(found)];
}
