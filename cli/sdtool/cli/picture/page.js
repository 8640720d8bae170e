"use strict";
{
  const table = document.getElementById("list");
  const body = table.tBodies[0];
  const form = document.querySelector("form.filters");
  const filters = ["name", "verdict", "kind"].map((id) => document.getElementById(id));
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const headings = [...table.tHead.rows[0].cells];
  const kindAt = headings.findIndex((cell) => cell.classList.contains("kind"));
  const AT_FIRST = 200;

  // read once: asking the cells of ten thousand rows at every key would be felt
  const rows = [...body.rows].map((row) => ({
    row,
    keys: [...row.cells].map((cell) =>
      "n" in cell.dataset ? Number(cell.dataset.n) : cell.textContent.toLowerCase()),
    kind: row.cells[kindAt].textContent,
    verdict: row.cells[1].textContent,
  }));
  let limit = AT_FIRST;

  // no more rows than somebody looks at: a table of ten thousand takes seconds to lay out
  const show = () => {
    const [name, verdict, kind] = filters.map((field) => field.value);
    const words = name.toLowerCase();
    const fitting = rows.filter((one) => one.keys[0].includes(words)
      && (!verdict || one.verdict === verdict) && (!kind || one.kind === kind));
    const shown = fitting.slice(0, limit);
    for (const one of shown) one.row.classList.remove("later");
    body.replaceChildren(...shown.map((one) => one.row));
    const [all, fit, seen] = [rows, fitting, shown].map((l) => l.length.toLocaleString("en"));
    count.value = `${fit} of ${all} files${fit === seen ? "" : `, the first ${seen} shown`}`;
    more.hidden = fit === seen;
  };

  const sort = (at) => {
    const heading = headings[at];
    const isNumber = heading.classList.contains("n");
    const was = heading.getAttribute("aria-sort");
    const now = was === "none" ? (isNumber ? "descending" : "ascending")
      : was === "ascending" ? "descending" : "ascending";
    for (const cell of headings) cell.setAttribute("aria-sort", cell === heading ? now : "none");
    const words = new Intl.Collator("en", { numeric: true }).compare;
    const compare = isNumber ? (a, b) => a - b : words;
    const sign = now === "ascending" ? 1 : -1;
    rows.sort((a, b) => sign * compare(a.keys[at], b.keys[at]));
    show();
  };

  const showOnly = (id, value) => {
    form.reset();
    document.getElementById(id).value = value;
    show();
    document.getElementById("files").scrollIntoView();
    document.getElementById(id).focus({ preventScroll: true });
  };

  const showUpTo = (count) => {
    limit = count;
    show();
  };

  headings.forEach((cell, at) => cell.firstChild.addEventListener("click", () => sort(at)));
  form.addEventListener("input", () => showUpTo(AT_FIRST));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(showUpTo, 0, AT_FIRST));
  more.addEventListener("click", () => showUpTo(10 * limit));
  addEventListener("beforeprint", () => showUpTo(Infinity));
  addEventListener("afterprint", () => showUpTo(AT_FIRST));
  document.addEventListener("click", (event) => {
    const block = event.target.closest("[data-path]");
    const kind = event.target.closest("[data-kind]");
    if (block) showOnly("name", block.dataset.path);
    if (kind) showOnly("kind", kind.dataset.kind);
  });
  show();
}
