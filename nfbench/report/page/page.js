// Sorting, filtering, switching between figures, and the theme. The page is complete without it.
"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (name, properties) => Object.assign(document.createElement(name), properties);

// Theme: the system's until the button is pressed, then the one chosen, remembered.
function theme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", String(dark()));
  button.hidden = false;
  button.addEventListener("click", () => {
    const chosen = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try { localStorage.setItem("nfbench-theme", chosen); } catch { /* not remembered */ }
    show();
  });
  system.addEventListener("change", show);
  show();
}

// Sorting: each head of a sortable table becomes a button; cells without a number stay last.
function sortable(table) {
  const heads = all("thead th", table);
  heads.forEach((head, column) => {
    if (!head.dataset.sort) return;
    const button = make("button", { type: "button" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      sort(table.tBodies[0], column, head.dataset.sort === "number", falling ? -1 : 1);
    });
  });
}

function sort(body, column, numeric, sign) {
  const keyed = [...body.rows].map((row) => [key(row.cells[column], numeric), row]);
  const compare = ([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (numeric ? a - b : a.localeCompare(b, "en", { numeric: true }));
  };
  body.append(...keyed.sort(compare).map(([, row]) => row));
}

function key(cell, numeric) {
  if (!numeric) return cell.textContent;
  const value = parseFloat(cell.dataset.value ?? cell.textContent);
  return Number.isNaN(value) ? null : value;
}

// Filters: whatever names another defense, attack, threat model or budget than the chosen one is hidden.
function filters() {
  const form = document.getElementById("filters");
  const chosen = all("select", form);
  const text = document.getElementById("filter-text");
  const apply = () => {
    const wanted = chosen.filter((select) => select.value);
    const word = text.value.trim().toLowerCase();
    all("main :is([data-defense], [data-attack], [data-threat], [data-budget])").forEach((part) => {
      const other = ({ dataset: { filter }, value }) => part.dataset[filter] !== undefined && part.dataset[filter] !== value;
      const missing = word && part.matches("tbody tr") && !part.textContent.toLowerCase().includes(word);
      part.classList.toggle("filtered", Boolean(wanted.some(other) || missing));
    });
    all("[data-switch]").forEach((box) => box.dispatchEvent(new CustomEvent("narrowed", { detail: wanted })));
    const rows = all("#cells tbody tr");
    const left = rows.filter((row) => !row.classList.contains("filtered")).length;
    const status = document.getElementById("filter-status");
    status.textContent = wanted.length || word ? `${left} of ${rows.length} cells` : "";
  };
  form.hidden = false;
  ["input", "change"].forEach((kind) => form.addEventListener(kind, apply));
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
}

// Switches: of several figures those of one budget, threat model or statistic are shown.
function switched(box, number) {
  const panels = [...box.children];
  const groups = box.dataset.switch.split(" ").map((name) => {
    const values = [...new Set(panels.map((panel) => panel.dataset[name]))];
    return { name, values, chosen: values[name === "budget" ? Math.floor(values.length / 2) : 0] };
  });
  const show = () => {
    let left = panels;
    groups.forEach((group) => {
      const there = new Set(left.map((panel) => panel.dataset[group.name]));
      if (!there.has(group.chosen)) group.chosen = group.values.find((value) => there.has(value));
      (group.radios || []).forEach((radio) => {
        radio.disabled = !there.has(radio.value);
        radio.checked = radio.value === group.chosen;
      });
      left = left.filter((panel) => panel.dataset[group.name] === group.chosen);
    });
    panels.forEach((panel) => panel.classList.toggle("unshown", !left.includes(panel)));
  };
  const bar = make("div", { className: "switches" });
  groups.filter(({ values }) => values.length > 1).forEach((group) => {
    const field = make("fieldset", {});
    field.append(make("legend", { textContent: group.name === "threat" ? "threat model" : group.name }));
    group.radios = group.values.map((value) => {
      const label = make("label", {});
      const radio = make("input", { type: "radio", name: `${group.name}-${number}`, value });
      radio.addEventListener("change", () => { group.chosen = value; show(); });
      label.append(radio, make("span", { textContent: value }));
      field.append(label);
      return radio;
    });
    bar.append(field);
  });
  box.addEventListener("narrowed", ({ detail }) => detail.forEach(({ dataset, value }) => {
    const group = groups.find(({ name, values }) => name === dataset.filter && values.includes(value));
    if (!group) return;
    group.chosen = value;
    show();
  }));
  box.before(bar);
  show();
}

// Paper shows what is folded away on a screen, and tables as wide as a landscape page, about 1040 pixels.
function printing() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach((part) => { part.open = true; });
    all(".scroll > table").forEach((table) => { table.style.zoom = Math.min(1, 1040 / table.scrollWidth); });
  });
  addEventListener("afterprint", () => {
    opened.forEach((part) => { part.open = false; });
    all(".scroll > table").forEach((table) => { table.style.zoom = ""; });
  });
}

theme();
all("table.sortable").forEach(sortable);
all("[data-switch]").forEach(switched);
filters();
printing();
