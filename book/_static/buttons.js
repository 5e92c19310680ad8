// The buttons of a page's head: each names the function that it calls, for the page's policy lets no markup run a script.
document.addEventListener("click", (event) => {
  const calls = event.target.closest?.("[data-calls]")?.dataset.calls;
  const known = { "window.print": () => window.print(), toggleFullScreen: () => globalThis.toggleFullScreen?.() };
  known[calls]?.();
});
