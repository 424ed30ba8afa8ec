
"use strict";
// Everything can be read without this: it sorts tables and filters the samples that broke.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const compared = (a, b) => {
        const [first, second] = [key(a), key(b)];
        const numbers = [Number(first), Number(second)];
        const known = first !== "" && second !== "" && !numbers.some(Number.isNaN);
        return (rising ? 1 : -1) * (known ? numbers[0] - numbers[1] : first.localeCompare(second));
      };
      body.append(...[...body.rows].sort(compared));
    });
  });
}
for (const filter of document.querySelectorAll(".filter")) {
  const samples = [...filter.nextElementSibling.children];
  const buttons = [...filter.querySelectorAll("button")];
  filter.hidden = false;
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const model = button.dataset.model;
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      for (const sample of samples) {
        sample.hidden = model !== "" && !sample.dataset.wrong.split(" ").includes(model);
      }
    });
  }
}
