"use strict";
(() => {
  const source = document.getElementById("gallery-data");
  const grid = document.getElementById("gallery-grid");
  if (!source || !grid) return;
  const runs = JSON.parse(source.textContent);
  if (!runs.length) return;
  const pageSize = 12;
  const find = (name) => document.getElementById("gallery-" + name);
  const state = { run: 0, filter: "all", order: "given", search: "", page: 0 };
  const sheets = new Map();
  let shown = [];

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // A sheet becomes a style rule when a pair on it is first shown, so that unseen pictures are never decoded. The rule
  // enters the page's own style sheet: its policy admits no other.
  const sheetClass = (run, side, number) => {
    const name = `sheet-${run}-${side}-${number}`;
    if (!sheets.has(name)) {
      const rules = document.styleSheets[0];
      rules.insertRule(`.${name}{background-image:url("${runs[run][side][number]}")}`, rules.cssRules.length);
      sheets.set(name, true);
    }
    return name;
  };

  const picture = (run, side, index) => {
    const data = runs[run];
    const rows = Math.ceil(Math.min(data.per_sheet, data.count - Math.floor(index / data.per_sheet) * data.per_sheet) / data.columns);
    const place = index % data.per_sheet;
    const column = place % data.columns;
    const row = Math.floor(place / data.columns);
    const made = element("i", sheetClass(run, side, Math.floor(index / data.per_sheet)));
    made.style.backgroundSize = `${data.columns * 100}% ${rows * 100}%`;
    made.style.backgroundPosition = `${(column * 100) / (data.columns - 1)}% ${rows > 1 ? (row * 100) / (rows - 1) : 0}%`;
    return made;
  };

  const tile = (label, ...pictures) => {
    const made = element("div", "tile" + (pictures.length > 1 ? " difference" : ""));
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", label);
    made.append(...pictures);
    return made;
  };

  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  const signals = (run, index, label) => {
    const data = runs[run];
    const made = svg("svg", { viewBox: "0 0 300 120", role: "img", "aria-label": label });
    const draw = (values, className) => {
      const step = 300 / Math.max(1, values.length - 1);
      const points = values.map((value, at) => `${(at * step).toFixed(1)},${(112 - value * 0.104).toFixed(1)}`).join(" ");
      made.append(svg("polyline", { points, class: className, fill: "none", "stroke-width": "1.6" }));
    };
    draw(data.training[index], "line under-line s2");
    draw(data.generated[index], "line s1");
    return made;
  };

  const number = (value) => (value === null ? "none" : String(value));

  const card = (run, index) => {
    const data = runs[run];
    const [generated, training, distance, ratio, fired] = data.pairs[index];
    const made = element("article", "pair");
    const hasPicture = data.kind === "images" ? index < data.count : data.kind === "signals" && index < data.generated.length;
    if (hasPicture && data.kind === "images") {
      const tiles = element("div", "tiles");
      tiles.style.setProperty("--aspect", `${data.width} / ${data.height}`);
      tiles.append(
        tile(`generated ${generated}`, picture(run, "generated", index)),
        tile(`training ${training}`, picture(run, "training", index)),
        tile("difference", picture(run, "training", index), picture(run, "generated", index)),
      );
      made.append(tiles);
      const under = element("div", "under");
      for (const text of ["generated", "training", "difference"]) under.append(element("span", "", text));
      made.append(under);
    } else if (hasPicture) {
      made.append(signals(run, index, `generated ${generated} over training ${training}`));
    }
    const names = element("div", "facts");
    const first = element("span", "s1", "generated ");
    first.append(element("b", "", generated));
    const second = element("span", "s2", "training ");
    second.append(element("b", "", training));
    names.append(first, second);
    const figures = element("div", "facts");
    for (const [name, value] of [["distance ", distance], ["ratio ", ratio]]) {
      const one = element("span", "", name);
      one.append(element("b", "", number(value)));
      figures.append(one);
    }
    const chips = element("div", "chips");
    for (const at of fired) chips.append(element("span", "chip", data.criteria[at][1]));
    made.append(names, figures, chips);
    return made;
  };

  const choose = () => {
    const data = runs[state.run];
    shown = data.pairs.map((_, index) => index);
    if (state.filter === "copies") shown = shown.filter((index) => data.pairs[index][4].length);
    else if (state.filter !== "all") shown = shown.filter((index) => data.pairs[index][4].includes(Number(state.filter)));
    const wanted = state.search.trim().toLowerCase();
    if (wanted) {
      shown = shown.filter((index) => data.pairs[index].slice(0, 2).some((name) => name.toLowerCase().includes(wanted)));
    }
    if (state.order !== "given") {
      const at = Number(state.order);
      const sign = data.criteria[at][2] ? 1 : -1;
      const score = (index) => data.pairs[index][5][at] ?? Infinity * sign;
      shown.sort((one, other) => sign * (score(one) - score(other)) || one - other);
    }
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(shown.length / pageSize));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const start = state.page * pageSize;
    const here = shown.slice(start, start + pageSize);
    grid.replaceChildren(...here.map((index) => card(state.run, index)));
    if (!here.length) grid.append(element("p", "note", "No pair of this kind."));
    find("place").textContent = here.length ? `${start + 1} to ${start + here.length} of ${shown.length}` : "0 of 0";
    find("page").value = state.page + 1;
    find("page").max = pages;
    find("back").disabled = state.page === 0;
    find("on").disabled = state.page >= pages - 1;
  };

  const options = (select, entries, value) => {
    select.replaceChildren(...entries.map(([key, text]) => {
      const made = element("option", "", text);
      made.value = key;
      return made;
    }));
    select.value = value;
  };

  const openRun = (run) => {
    Object.assign(state, { run, filter: "all", order: "given", search: "", page: 0 });
    find("search").value = "";
    const criteria = runs[run].criteria.map(([, title], index) => [String(index), title]);
    options(find("filter"), [["all", "all pairs"], ["copies", "any criterion fires"], ...criteria], "all");
    options(find("order"), [["given", "worst first"], ...criteria], "given");
    choose();
    draw();
  };

  const change = (key, value) => {
    state[key] = value;
    state.page = 0;
    choose();
    draw();
  };

  find("filter").addEventListener("change", (event) => change("filter", event.target.value));
  find("order").addEventListener("change", (event) => change("order", event.target.value));
  find("search").addEventListener("input", (event) => change("search", event.target.value));
  find("back").addEventListener("click", () => { state.page -= 1; draw(); });
  find("on").addEventListener("click", () => { state.page += 1; draw(); });
  find("page").addEventListener("change", (event) => { state.page = Number(event.target.value || 1) - 1; draw(); });
  const gain = find("gain");
  gain.addEventListener("input", () => {
    grid.style.setProperty("--gain", gain.value);
    find("gain-text").textContent = `${gain.value} x`;
  });
  const picker = find("run");
  if (picker) {
    options(picker, runs.map((run, index) => [String(index), run.label]), "0");
    picker.addEventListener("change", (event) => openRun(Number(event.target.value)));
  }
  openRun(0);
})();
