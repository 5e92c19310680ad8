// Shows what a term or symbol means (the title of a link of class hover-note) on hover, on focus and at a first tap.
// Without this file the browser shows the title by itself, on hover alone.
(() => {
  const EDGE = 8; // px between the note and the edges of the window, or its link
  const DELAY = 200; // ms to move the pointer from the link into the note
  const note = document.createElement("div");
  note.id = "hover-note";
  note.setAttribute("role", "tooltip");
  let link = null; // whose note is shown
  let tapped = null; // a link whose first tap only shows its note
  let timer = 0;

  const linkAt = (target) => (target instanceof Element ? target.closest("a.hover-note") : null);

  const hide = () => {
    clearTimeout(timer);
    link?.removeAttribute("aria-describedby");
    link = null;
    note.remove();
  };

  const place = () => {
    const box = link.getClientRects()[0] ?? link.getBoundingClientRect();
    const room = document.documentElement.clientWidth - note.offsetWidth - EDGE;
    const below = box.bottom + EDGE;
    const fits = below + note.offsetHeight < window.innerHeight;
    note.style.left = `${Math.max(EDGE, Math.min(box.left, room)) + window.scrollX}px`;
    note.style.top = `${(fits ? below : Math.max(0, box.top - note.offsetHeight - EDGE)) + window.scrollY}px`;
  };

  const show = (next) => {
    clearTimeout(timer);
    if (next === link) return;
    hide();
    // The title would appear a second time, as the browser's own note.
    if (next.title) {
      next.dataset.note = next.title;
      next.removeAttribute("title");
    }
    if (!next.dataset.note) return;
    link = next;
    note.textContent = link.dataset.note;
    document.body.append(note);
    link.setAttribute("aria-describedby", note.id);
    place();
  };

  const onPointer = (event) => {
    if (event.pointerType === "touch") return;
    const over = linkAt(event.target);
    if (over) show(over);
    else if (note.contains(event.target)) clearTimeout(timer);
    else if (link && link !== document.activeElement) {
      clearTimeout(timer);
      timer = setTimeout(hide, DELAY);
    }
  };

  document.addEventListener("pointerover", onPointer);
  document.addEventListener("focusin", (event) => {
    const focused = linkAt(event.target);
    if (focused) show(focused);
  });
  document.addEventListener("focusout", (event) => {
    if (linkAt(event.target) === link) hide();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  // A finger cannot hover: its first tap shows the note, the second follows the link, a tap elsewhere hides the note.
  document.addEventListener("pointerdown", (event) => {
    const down = linkAt(event.target);
    tapped = event.pointerType === "touch" && down !== link ? down : null;
    if (link && down !== link && !note.contains(event.target)) hide();
  });
  document.addEventListener("click", (event) => {
    const clicked = linkAt(event.target);
    if (clicked && clicked === tapped) {
      event.preventDefault();
      show(clicked);
    }
    tapped = null;
  });
  window.addEventListener("resize", hide);
})();
