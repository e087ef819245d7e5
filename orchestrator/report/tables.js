// What every page of this project does: its tables are sorted by a click, and it prints whole.
"use strict";
(() => {
  // Pixels of a landscape page of Letter, the narrower one, within its margins.
  const PAPER = 960;

  // What a cell sorts by: a number where it is one, nothing where it is empty (such rows go last), or else its text.
  function order(row, column) {
    const cell = row.cells[column];
    const value = cell.dataset.order ?? cell.textContent;
    return value === "" ? null : Number.isNaN(Number(value)) ? value : Number(value);
  }

  function compare(one, other) {
    if (one === null || other === null) return 0;
    return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
  }

  function sortBy(header) {
    const table = header.closest("table");
    const column = header.cellIndex;
    const falling = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: order(row, column) }));
    rows.sort((a, b) =>
      (a.value === null) - (b.value === null) || (falling ? -1 : 1) * compare(a.value, b.value));
    table.tBodies[0].append(...rows.map((entry) => entry.row));
  }

  function watchTables() {
    for (const button of document.querySelectorAll("table.sortable th button")) {
      button.addEventListener("click", () => sortBy(button.closest("th")));
    }
  }

  // Paper can't be clicked: what is closed is printed too. And it is narrower than most screens.
  function openForPrint() {
    let opened = [];
    const plot = document.getElementById("plot");
    const drawn = () => plot && window.Plotly && plot.data;
    window.addEventListener("beforeprint", () => {
      if (drawn()) Plotly.relayout(plot, { width: PAPER });
      opened = [...document.querySelectorAll("details:not([open])")];
      for (const one of opened) one.open = true;
    });
    window.addEventListener("afterprint", () => {
      for (const one of opened) one.open = false;
      if (!drawn()) return;
      delete plot.layout.width;
      Plotly.Plots.resize(plot);
    });
  }

  watchTables();
  openForPrint();
})();
