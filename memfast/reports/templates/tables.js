"use strict";
(() => {
  const source = document.getElementById("tables-data");
  if (!source) return;
  const pageSize = 25;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const words = (value) => {
    if (value === null || value === "") return "";
    if (typeof value !== "number") return value;
    if (Number.isInteger(value)) return String(value);
    return Math.abs(value) < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  };

  const open = (name, data) => {
    const find = (part) => document.getElementById(`${name}-${part}`);
    const table = find("table");
    if (!table) return;
    const kinds = data.columns.findIndex(([title]) => title === "Memorized");
    const first = data.columns.findIndex(([title]) => title === "D1");
    const state = { column: first < 0 ? 0 : first, falling: first >= 0, page: 0, search: "", kind: "" };
    const body = element("tbody");
    let shown = [];

    const heads = data.columns.map(([title], at) => {
      const cell = element("th");
      cell.scope = "col";
      const button = element("button", "sort", title);
      button.type = "button";
      button.addEventListener("click", () => {
        state.falling = state.column === at ? !state.falling : data.columns[at][1];
        state.column = at;
        choose();
      });
      cell.append(button);
      return cell;
    });
    const head = element("thead");
    const line = element("tr");
    line.append(...heads);
    head.append(line);
    table.append(head, body);

    // Empty cells stay at the end, whichever way the column is sorted.
    const compare = (one, other) => {
      const [a, b] = [one[state.column], other[state.column]];
      const [empty, none] = [a === null || a === "", b === null || b === ""];
      if (empty || none) return empty - none;
      const order = data.columns[state.column][1] ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
      return state.falling ? -order : order;
    };

    const choose = () => {
      const wanted = state.search.toLowerCase();
      shown = data.rows.filter((row) => row[0].toLowerCase().includes(wanted) && (!state.kind || row[kinds] === state.kind));
      shown.sort(compare);
      state.page = 0;
      draw();
    };

    const draw = () => {
      const start = state.page * pageSize;
      const here = shown.slice(start, start + pageSize);
      body.replaceChildren(...here.map((row) => {
        const made = element("tr");
        row.forEach((value, at) => {
          const cell = element(at ? "td" : "th", at ? "" : "name", words(value));
          if (!at) cell.scope = "row";
          made.append(cell);
        });
        return made;
      }));
      heads.forEach((cell, at) => {
        if (at === state.column) cell.setAttribute("aria-sort", state.falling ? "descending" : "ascending");
        else cell.removeAttribute("aria-sort");
      });
      find("place").textContent = here.length ? `${start + 1} to ${start + here.length} of ${shown.length}` : "none";
      find("back").disabled = state.page === 0;
      find("on").disabled = start + pageSize >= shown.length;
    };

    find("search").addEventListener("input", (event) => { state.search = event.target.value; choose(); });
    const filter = find("filter");
    if (filter) filter.addEventListener("change", (event) => { state.kind = event.target.value; choose(); });
    find("back").addEventListener("click", () => { state.page -= 1; draw(); });
    find("on").addEventListener("click", () => { state.page += 1; draw(); });
    choose();
  };

  for (const [name, data] of Object.entries(JSON.parse(source.textContent))) open(name, data);
})();
