"use strict";

// A click on a column's head sorts by it: numbers by value, words by the alphabet, empty cells last; again: reversed.
function sortBy(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => {
    const cell = row.cells[column];
    return { row, empty: cell.textContent === "", key: cell.dataset.value ?? cell.textContent };
  });
  const numbers = head.classList.contains("number");
  rows.sort((a, b) => {
    if (a.empty || b.empty) return a.empty - b.empty;
    const order = numbers ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true });
    return ascending ? order : -order;
  });
  table.tBodies[0].append(...rows.map((entry) => entry.row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.firstElementChild.addEventListener("click", () => sortBy(table, column));
  });
}

// Every word must stand somewhere in the row, in the full formula too.
const form = document.querySelector(".filters");
if (form) {
  const rows = [...document.querySelectorAll("#table-candidates tbody tr")];
  const heads = [...document.querySelectorAll("#table-candidates th")];
  const status = heads.findIndex((head) => head.textContent.trim() === "status");
  const texts = rows.map((row) => `${row.textContent} ${row.querySelector("code")?.title}`.toLowerCase());
  const filter = () => {
    const words = form.querySelector("#find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = form.querySelector("#status").value;
    let count = 0;
    rows.forEach((row, index) => {
      const fits = words.every((word) => texts[index].includes(word));
      row.hidden = !fits || (wanted !== "" && row.cells[status].textContent !== wanted);
      count += !row.hidden;
    });
    form.querySelector("#shown").value = `${count} of ${rows.length}`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
