document.querySelectorAll("table.sortable").forEach(table => {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1, rows = [...body.rows];
    const numbers = rows.every(row => key(row, column) === "" || !isNaN(key(row, column)));
    const order = (a, b) => a === "" ? (b === "" ? 0 : 1) : b === "" ? -1 : sign * (numbers ? a - b : a.localeCompare(b));
    rows.sort((a, b) => order(key(a, column), key(b, column)));
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  }));
});
document.querySelectorAll("input[data-filter]").forEach(input => input.addEventListener("input", () => {
  const wanted = input.value.trim().toLowerCase();
  for (const row of document.getElementById(input.dataset.filter).tBodies[0].rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
}));
document.querySelectorAll("button.copy").forEach(button => button.addEventListener("click", async () => {
  await navigator.clipboard.writeText(button.nextElementSibling.textContent.trim());
  button.textContent = "copied";
}));
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
addEventListener("hashchange", () => document.querySelector(location.hash + "")?.closest("details")?.setAttribute("open", ""));
