/* Tables: on a phone each cell is named by its column, and a table of results is copied as CSV with all its digits. */
(() => {
  "use strict";
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csv = (table) => {
    const rows = [...table.rows];
    const withError = [...table.tHead.rows[0].cells].map((_, i) =>
      rows.some((row) => row.cells[i]?.querySelector("data[data-error]")),
    );
    const line = (row) =>
      [...row.cells].flatMap((cell, i) => {
        const number = cell.querySelector("data");
        const text = number ? number.value : cell.textContent.trim();
        if (!withError[i]) return [text];
        return [text, cell.closest("thead") ? `${text}, standard error` : (number?.dataset.error ?? "")];
      });
    return rows.map((row) => line(row).map(quoted).join(",")).join("\n") + "\n";
  };
  const addButton = (table) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy-csv";
    button.textContent = "Copy as CSV";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(csv(table));
        button.textContent = "Copied";
      } catch {
        button.textContent = "The browser does not allow it";
      }
      setTimeout(() => (button.textContent = "Copy as CSV"), 2000);
    });
    table.after(button);
  };
  window.addEventListener("DOMContentLoaded", () => {
    for (const table of document.querySelectorAll(".bd-article table")) {
      const names = [...(table.tHead?.rows[0]?.cells ?? [])].map((cell) => cell.textContent.trim());
      for (const row of table.tBodies[0]?.rows ?? []) {
        [...row.cells].forEach((cell, i) => (cell.dataset.label ??= names[i] ?? ""));
      }
    }
    document.querySelectorAll(".bd-article table.results").forEach(addButton);
  });
})();
