// The table: sorted by its heads, searched, filtered, explained, downloaded.
"use strict";
(() => {
  const { data, models, element, named, fixed, percent, count, digits, target } = report;
  const table = document.getElementById("table");
  if (!table) return;
  const FIRST = 15;
  const NONE = Number.POSITIVE_INFINITY;
  const find = document.getElementById("find"), family = document.getElementById("family");
  const single = document.getElementById("single"), largest = document.getElementById("largest"), all = document.getElementById("all"), status = document.getElementById("count");
  const columns = [
    { key: "rank", label: "Rank", numeric: true, value: (r) => r.rank },
    { key: "model", label: "Model", value: (r) => r.model.name.toLowerCase() },
    { key: "low", label: "Likely rank", value: (r) => r.low, class: "range" },
    { key: "expected", label: "Expected accuracy", numeric: true, descending: true, value: (r) => r.expected, class: "optional", cell: (r) => (r.expected === null ? "–" : `${Math.round(100 * r.expectedLow)} to ${percent(r.expectedHigh)}`) },
    { key: "top", label: "Chance of top 5", numeric: true, descending: true, value: (r) => r.top, class: "lesser", cell: (r) => percent(r.top) },
    { key: "parameters", label: "Parameters", numeric: true, value: (r) => r.model.parameters, class: "lesser", cell: (r) => count(r.model.parameters) },
    { key: "gflops", label: "GFLOPs", numeric: true, value: (r) => r.model.gflops, class: "optional", cell: (r) => digits(r.model.gflops) },
    { key: "accuracy", label: "Accuracy here", numeric: true, descending: true, value: (r) => r.accuracy, class: "optional", cell: (r) => percent(r.accuracy, 1) },
  ];
  const drop = (key) => columns.splice(columns.findIndex((column) => column.key === key), 1);
  if (!data.targets.some((item) => Object.keys(item.truth).length)) drop("accuracy");
  if (!data.targets.some((item) => item.rows.some((row) => row[9][0] !== null))) drop("expected");
  const few = Math.max(...data.targets.map((item) => item.rows.filter((row) => row[1] !== null).length)) <= 7;
  if (few) drop("top"); // among so few nearly everyone is in the top five
  const view = { rows: [], sort: "rank", descending: false, all: false, open: new Set() };

  const read = () => target().rows.map((row, place) => ({
    place, model: models[row[0]], rank: row[1], score: row[2], low: row[3], high: row[4], top: row[5],
    status: row[6], reason: row[7], parts: row[8] ?? [], expected: row[9][0], expectedLow: row[9][1], expectedHigh: row[9][2], accuracy: target().truth[row[0]] ?? null,
    text: [models[row[0]].name, models[row[0]].family, row[7]].join(" ").toLowerCase(),
  }));

  const SVG = "http://www.w3.org/2000/svg";
  const shape = (tag, attributes) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const interval = (row, last) => {
    if (row.low === null) return "–";
    const x = (rank) => `${2 + 96 * (last > 1 ? (rank - 1) / (last - 1) : 0.5)}%`;
    const svg = shape("svg", { role: "img", "aria-label": `${row.low} to ${row.high}` });
    const title = shape("title", {});
    title.textContent = `rank ${row.low} to ${row.high}`;
    svg.append(
      title,
      shape("line", { class: "track", x1: "2%", x2: "98%", y1: "50%", y2: "50%" }),
      shape("line", { class: "span", x1: x(row.low), x2: x(row.high), y1: "50%", y2: "50%" }),
      shape("circle", { class: "dot", cx: x(row.rank), cy: "50%", r: 4.5 }),
    );
    return svg;
  };

  const explain = (row) => {
    const box = element("td", { colspan: columns.length + 1 });
    const reasons = (target().why || {})[row.model.index];
    box.append(element("div", {}, [
      row.score !== null ? `Score ${fixed(row.score, 3)}` : null, row.parts.length > 1 && row.score !== null ? `of it ${row.parts.map((value, part) => `${fixed(value, 3)} from ${target().parts[part]}`).join(" and ")}` : null,
      row.low !== null ? `likely rank ${row.low} to ${row.high}` : null, row.accuracy !== null ? `accuracy on this task ${percent(row.accuracy, 1)}, not used for the ranking` : null, row.top !== null ? `${percent(row.top)} chance of the true top five` : null,
      `${count(row.model.parameters)} parameters (${count(row.model.imageParameters)} in the image tower)`, `${digits(row.model.gflops)} GFLOPs per image`, row.model.bytes ? `weights of ${count(row.model.bytes)}B` : null, row.model.weights ? `weights ${row.model.weights.slice(0, 12)}` : null,
    ].filter(Boolean).join(" · ")));
    if (row.model.code && row.rank !== null) box.append(element("div", {}, element("code", {}, named(row.model.code))));
    if (row.reason) box.append(element("div", {}, "Reason: ", named(row.reason)));
    if (!reasons && row.rank !== null && Object.keys(target().why).length) {
      box.append(element("div", {}, `Only the first models are explained here; ranking/${target().name}.weights.csv explains all.`));
    }
    if (!reasons || !reasons.length) return element("tr", { class: "detail" }, box);
    const body = element("tbody");
    const head = ["Known task", "Weight", "Divergence", "Its rank there", "Its accuracy there"];
    let sum = 0;
    for (const [source, weight, divergence, accuracy, rank, number] of reasons) {
      sum += weight;
      const cells = [[percent(weight), element("span", { class: "meter", style: `width:${(4 * weight).toFixed(2)}rem` })], [fixed(divergence, 3)], [rank === null ? "–" : `${rank} of ${number}`], [percent(accuracy, 1)]];
      body.append(element("tr", {}, element("th", { scope: "row" }, named(data.datasets[source])), ...cells.map((content, index) => element("td", { "data-label": head[index + 1] }, ...content))));
    }
    box.append(element("table", { class: "stack" }, element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))), body));
    const rest = 1 - sum;
    if (rest > 0.005) box.append(element("div", {}, `The other tasks share ${percent(rest)} of the weight.`));
    return element("tr", { class: "detail" }, box);
  };

  const draw = (row, last) => {
    const label = element("th", { scope: "row" }, named(row.model.name), element("small", {}, named(row.rank === null ? `failed: ${row.reason}` : row.model.family)));
    const button = element("button", { type: "button", class: "why", "aria-expanded": "false", "aria-label": `Why ${row.model.name}` }, "Why");
    const cells = columns.map((column) => {
      if (column.key === "rank") return element("td", { class: "n" }, row.rank === null ? "–" : String(row.rank));
      if (column.key === "model") return label;
      if (column.key === "low") return element("td", { class: "range" }, interval(row, last));
      return element("td", { class: `n ${column.class}` }, column.cell(row));
    });
    const line = element("tr", { class: row.rank === null ? "failed" : row.place === 0 ? "first" : null }, ...cells, element("td", {}, button));
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!open));
      if (open) { view.open.delete(row.place); line.nextElementSibling.remove(); } else { view.open.add(row.place); line.after(explain(row)); }
    });
    row.line = line;
    return line;
  };

  const wanted = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const limit = largest.value === "" ? NONE : Number(largest.value) * 1e6;
    const best = new Map(); // architecture -> place of its best checkpoint
    for (const row of view.rows) if (row.rank !== null && !best.has(row.model.group)) best.set(row.model.group, row.place);
    return view.rows.filter((row) => words.every((word) => row.text.includes(word))
      && (!single.checked || best.get(row.model.group) === row.place)
      && (!family.value || row.model.family === family.value)
      && (limit === NONE || (row.model.parameters !== null && row.model.parameters <= limit)));
  };
  const order = (rows) => {
    const { value } = columns.find((column) => column.key === view.sort);
    const sign = view.descending ? -1 : 1;
    return rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place; // what is missing stays last
      return sign * (x < y ? -1 : x > y ? 1 : 0) || a.place - b.place;
    });
  };
  const refresh = () => {
    const last = view.rows.filter((row) => row.rank !== null).length;
    const rows = order(wanted());
    const shown = view.all ? rows : rows.slice(0, FIRST);
    const lines = document.createDocumentFragment();
    for (const row of shown) {
      lines.append(row.line || draw(row, last));
      if (view.open.has(row.place)) lines.append(explain(row));
    }
    table.tBodies[0].replaceChildren(lines);
    const some = rows.length < view.rows.length ? `${rows.length} of ${view.rows.length} models match` : `${rows.length} models`;
    status.textContent = rows.length > shown.length ? `${some}; the first ${shown.length} are shown.` : `${some}.`;
    all.hidden = rows.length <= FIRST;
    all.textContent = view.all ? `Show the first ${FIRST}` : `Show all ${rows.length}`;
    for (const head of table.tHead.querySelectorAll("th[data-key]")) {
      if (head.dataset.key === view.sort) head.setAttribute("aria-sort", view.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  };

  const heads = element("tr");
  for (const column of columns) {
    const button = element("button", { type: "button" }, column.label);
    button.addEventListener("click", () => {
      view.descending = view.sort === column.key ? !view.descending : Boolean(column.descending);
      view.sort = column.key;
      refresh();
    });
    heads.append(element("th", { scope: "col", "data-key": column.key, class: [column.numeric ? "n" : "", column.class || ""].join(" ").trim() || null }, button));
  }
  heads.append(element("th", { scope: "col" }, element("span", { class: "hidden" }, "Explanation")));
  table.tHead.append(heads);
  for (const name of [...new Set(models.map((model) => model.family))].sort()) family.append(element("option", { value: name }, name));
  for (const control of [find, family, largest, single]) control.addEventListener("input", refresh);
  all.addEventListener("click", () => { view.all = !view.all; refresh(); });

  const cell = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // a spreadsheet must not run it
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  document.getElementById("download").addEventListener("click", () => {
    const head = ["rank", "model", "score", "rank_low", "rank_high", "p_top5", "family", "parameters", "image_parameters", "gflops", "weights_sha256", "status", "reason", "accuracy", "accuracy_low", "accuracy_high", "load"];
    const lines = order(wanted()).map((r) => [r.rank, r.model.name, r.score, r.low, r.high, r.top, r.model.family,
      r.model.parameters, r.model.imageParameters, r.model.gflops, r.model.weights, r.status, r.reason, r.expected, r.expectedLow, r.expectedHigh, r.model.code].map(cell).join(","));
    const url = URL.createObjectURL(new Blob([`${head.join(",")}\n${lines.join("\n")}\n`], { type: "text/csv;charset=utf-8" }));
    const link = element("a", { href: url, download: `ranking-${target().name}.csv` });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  report.watchers.push(() => { view.rows = read(); view.open.clear(); refresh(); });
})();
