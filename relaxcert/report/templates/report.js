"use strict";
(() => {
  const root = document.documentElement;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const tell = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; tell(); });
  system.addEventListener("change", tell);
  tell();
  document.querySelector("header").append(button);

  const order = new Intl.Collator(undefined, { numeric: true });
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  // Unknown numbers stay last, whichever way the rest is sorted.
  const compare = (a, b, sign) => {
    if (typeof a === "string") return sign * order.compare(a, b);
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return sign * (a - b);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const sorter = document.createElement("button");
      sorter.type = "button";
      sorter.append(...head.childNodes);
      head.append(sorter);
      sorter.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const rows = [...table.tBodies[0].rows];
        const numbers = rows.length > 0 && typeof valueOf(rows[0], column) === "number";
        const first = numbers ? "descending" : "ascending";
        const other = numbers ? "ascending" : "descending";
        const now = before === first ? other : first;
        for (const one of heads) one.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", now);
        const sign = now === "ascending" ? 1 : -1;
        rows.sort((a, b) => compare(valueOf(a, column), valueOf(b, column), sign));
        table.tBodies[0].append(...rows);
      });
    });
  }
})();
