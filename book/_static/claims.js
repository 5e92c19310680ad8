/* The ledger of claims: filters that an address can hold (?verdict=partly), and rows that an address opens (#claim-...). */
(() => {
  const form = document.getElementById("claims-filter");
  if (!form) return;
  const rows = [...document.querySelectorAll("details.claim")];
  const keys = ["source", "verdict", "page"];

  const filter = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = `${row.id} ${row.textContent}`.toLowerCase();
      const fits = keys.every((key) => !form.elements[key].value || row.dataset[key] === form.elements[key].value);
      row.hidden = !(fits && words.every((word) => text.includes(word)));
    }
    for (const tally of document.querySelectorAll(".claims-tally")) {
      const source = tally.dataset.source;
      const left = rows.filter((row) => !row.hidden && (!source || row.dataset.source === source));
      for (const part of tally.querySelectorAll("[data-verdict]")) {
        const count = left.filter((row) => row.dataset.verdict === part.dataset.verdict).length;
        (part.querySelector("span") ?? part).textContent = count;
        part.style.flexGrow = count;
        part.hidden = !count;
      }
      if (source) tally.closest("section").hidden = !left.length;
    }
    const shown = rows.filter((row) => !row.hidden).length;
    form.querySelector("output").textContent = `${shown} of ${rows.length} rows`;
  };

  const remember = () => {
    const chosen = new URLSearchParams();
    for (const key of [...keys, "words"]) if (form.elements[key].value) chosen.set(key, form.elements[key].value);
    const query = chosen.size ? `?${chosen}` : location.pathname;
    history.replaceState(null, "", query);
  };

  const open = () => {
    const row = rows.find((one) => `#${one.id}` === decodeURIComponent(location.hash));
    if (!row) return;
    if (row.hidden) {
      form.reset();
      filter();
    }
    row.open = true;
    row.scrollIntoView({ behavior: "instant", block: "center" });
    row.querySelector("summary").focus({ preventScroll: true });
  };

  for (const [key, value] of new URLSearchParams(location.search)) {
    if ([...keys, "words"].includes(key)) form.elements[key].value = value;
  }
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => (filter(), remember()));
  form.addEventListener("reset", () => setTimeout(() => (filter(), remember())));
  window.addEventListener("hashchange", open);
  filter();
  open();
  // Who comes with a filter comes for the rows. The page settles first: what stands above may still change its height.
  if (location.search && !location.hash) {
    window.addEventListener("load", () => form.scrollIntoView({ behavior: "instant" }));
  }
})();
