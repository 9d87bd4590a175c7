// The charts: Vega-Lite specifications from Python, filled with the page's data, drawn when they come into view.
"use strict";
(() => {
  const { data, models, element, named, fixed, target, ranked } = report;
  const charts = new Map(); // id -> { build, stale, view }
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const config = (node) => ({
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
    axis: { labelColor: color("--soft"), titleColor: color("--soft"), gridColor: color("--line"), domainColor: color("--line"), tickColor: color("--line"), titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 12, labelLimit: 360 },
    legend: { labelColor: color("--soft"), titleColor: color("--soft"), titleFontWeight: "normal", labelFontSize: 12 },
    text: { color: color("--ink") },
  });
  const decode = (packed, size) => {
    const [largest, text] = packed;
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return Array.from({ length: size }, (_, i) => Array.from(bytes.subarray(i * size, (i + 1) * size), (byte) => (byte === 255 ? null : (byte / 254) * largest)));
  };
  const option = (value, label) => element("option", { value }, label);
  const FIT = { type: "fit-x", contains: "padding" };
  const width = (node) => Math.max(220, Math.floor(node.clientWidth));

  const draw = async (id) => {
    const chart = charts.get(id);
    chart.stale = false;
    const node = document.getElementById(id);
    const built = chart.build(node);
    if (chart.view) chart.view.finalize();
    if (!built) { node.textContent = "Nothing to draw."; return; }
    const { name, datasets, patch } = built;
    const spec = structuredClone(data.charts[name]);
    if (built.note) spec.description += ` ${built.note}`;
    Object.assign(spec, { datasets, config: config(node), background: "transparent" }, patch || {});
    if (built.edit) built.edit(spec);
    const result = await vegaEmbed(node, spec, {
      actions: false, ast: true, renderer: "svg", defaultStyle: false,
      tooltip: { disableDefaultStyle: true },
    });
    chart.view = result.view;
  };
  const visible = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const chart = charts.get(entry.target.id);
      chart.inView = entry.isIntersecting;
      if (chart.inView && chart.stale) draw(entry.target.id);
    }
  }, { rootMargin: "300px" });
  const add = (id, build) => {
    const node = document.getElementById(id);
    if (!node) return;
    charts.set(id, { build, stale: true, inView: false, view: null });
    visible.observe(node);
  };
  const redraw = (...ids) => {
    for (const id of ids.length ? ids : charts.keys()) {
      const chart = charts.get(id);
      if (!chart) continue;
      chart.stale = true;
      if (chart.inView) draw(id);
    }
  };

  // held-out evaluation
  const metric = document.getElementById("metric");
  if (metric) {
    const { metrics, summary, values, labels, groups, differences } = data.evaluation;
    metrics.forEach((item, index) => metric.append(option(index, item.label)));
    const direction = document.getElementById("metric-direction");
    const chosen = () => metrics[metric.value];
    const rowsOf = () => summary.filter((row) => row[1] === chosen().name && row[2] !== null).sort((a, b) => (chosen().higher ? -1 : 1) * (a[2] - b[2]));
    add("chart-evaluation", (node) => {
      direction.textContent = `${chosen().higher ? "Higher (right)" : "Lower (left)"} is better.`;
      const rows = rowsOf();
      const place = new Map(rows.map((row, index) => [row[0], index]));
      const beside = node.clientWidth >= 900; // else the names stand above their rows, in as many lines as they need
      const name = (method) => (beside ? labels[method] : labels[method].match(new RegExp(`.{1,${Math.floor(width(node) / 6.8)}}(?:\\s|$)`, "g")).map((line) => line.trim()));
      const lines = beside ? 1 : Math.max(...rows.map((row) => name(row[0]).length));
      return {
        name: "evaluation",
        datasets: {
          table: rows.map(([method, , mean, low, high]) => ({ label: labels[method], lines: name(method), mean, ci_low: low ?? mean, ci_high: high ?? mean, group: groups[method], place: place.get(method) })),
          tasks: values.filter((row) => row[1] === chosen().name && place.has(row[0])).map(([method, , task, value]) => ({ label: labels[method], task, value, place: place.get(method) })),
        },
        patch: { width: width(node), height: (beside ? 24 : 22 + 15 * lines) * rows.length, autosize: FIT },
        edit: (spec) => {
          if (beside) { for (const layer of spec.layer) layer.encoding.y.axis = { labelLimit: 0 }; return; }
          for (const layer of spec.layer) layer.encoding.y.axis = null;
          spec.layer.push({ data: { name: "table" }, mark: { type: "text", align: "left", x: 0, dy: -14, fontSize: 12, lineHeight: 14, baseline: "line-bottom", lineBreak: "\n" }, encoding: { y: spec.layer[0].encoding.y, text: { field: "lines" } } });
        },
      };
    });
    const cells = (texts) => texts.map(([label, text]) => element("td", { class: label === "Kind" || label === "against" ? null : "n", "data-label": label }, text));
    const range = (low, high) => (low === null ? "–" : `${fixed(low, 3)} to ${fixed(high, 3)}`);
    const tables = () => {
      document.querySelector("#evaluation-table tbody").replaceChildren(...rowsOf().map(([method, , mean, low, high]) => element("tr", {}, element("th", { scope: "row" }, labels[method]),
        ...cells([["Kind", groups[method]], ["Mean", fixed(mean, 3)], ["95 % interval", range(low, high)]]))));
      const compared = document.querySelector("#differences-table tbody");
      if (!compared) return;
      compared.replaceChildren(...differences.filter((row) => row[2] === chosen().name).map(([method, reference, , mean, low, high, ...counts]) => element("tr", {}, element("th", { scope: "row" }, labels[method]),
        ...cells([["against", labels[reference]], ["Difference", fixed(mean, 3)], ["95 % interval", range(low, high)], ["Won, tied, lost", counts.join(", ")]]))));
    };
    metric.addEventListener("change", () => { redraw("chart-evaluation"); tables(); });
    tables();
  }

  // claims and what came true
  add("chart-reliability", (node) => ({
    name: "reliability", datasets: { table: data.reliability, diagonal: [{ x: 0, y: 0 }, { x: 1, y: 1 }] },
    patch: { width: Math.min(360, width(node)), height: 280, autosize: FIT },
  }));

  // similarity of tasks
  const similar = document.getElementById("similarity-model");
  if (similar) {
    for (const index of Object.keys(data.divergences)) similar.append(option(index, models[index].name));
    const matrix = () => (similar.value === "" ? data.pooled : decode(data.divergences[similar.value], data.datasets.length));
    const note = document.getElementById("similarity-note");
    add("chart-similarity", (node) => {
      const values = matrix(), all = data.datasets, own = data.targets.length ? all.indexOf(target().name) : -1;
      const room = Math.max(4, Math.floor((width(node) - 170) / 14)); // what does not fit would have to be scrolled to
      const near = all.map((_, i) => i).filter((i) => i !== own).sort((a, b) => (own < 0 ? a - b : (values[a][own] ?? 9) - (values[b][own] ?? 9))).slice(0, room - 1);
      const kept = all.length <= room ? all.map((_, i) => i) : [own, ...near].filter((i) => i >= 0).sort((a, b) => a - b), rows = [];
      note.textContent = kept.length < all.length ? `Shown are ${own < 0 ? "the first" : "this task and the nearest"} ${near.length} of ${all.length}; a wider window shows more.` : "";
      for (const i of kept) for (const j of kept) if (values[i][j] !== null) rows.push({ source: all[i], target: all[j], divergence: values[i][j] });
      const side = Math.max(14, Math.min(26, Math.floor((width(node) - 170) / kept.length)));
      return { name: "similarity", datasets: { table: rows }, patch: { width: side * kept.length, height: side * kept.length },
        edit: (spec) => { spec.encoding.color.legend.gradientLength = Math.min(220, Math.max(90, side * kept.length)); for (const axis of ["x", "y"]) spec.encoding[axis].axis = { ...spec.encoding[axis].axis, labelLimit: 120 }; } };
    });
    const list = document.getElementById("nearest");
    const nearest = () => {
      if (!list) return;
      const column = data.datasets.indexOf(target().name), tasks = new Set(data.targets.map((item) => item.name));
      const found = matrix().map((line, i) => [data.datasets[i], line[column]]).filter(([name, value]) => !tasks.has(name) && value !== null && value !== undefined).sort((a, b) => a[1] - b[1]);
      const largest = Math.max(...found.map((item) => item[1]), 1e-9);
      list.replaceChildren(...found.map(([name, value]) => element("li", {}, named(name),
        element("span", {}, element("span", { class: "meter", style: `width:${((100 * value) / largest).toFixed(1)}%` })), element("span", {}, value.toFixed(2)))));
    };
    similar.addEventListener("change", () => { redraw("chart-similarity"); nearest(); });
    report.watchers.push(nearest);
  }

  // block profiles
  const profile = document.getElementById("profile-model");
  if (profile) {
    add("chart-profile", (node) => {
      const found = target().profiles[profile.value];
      if (!found) return null;
      const rows = [];
      ["conductance", "importance"].forEach((kind, index) => (found[index] || []).forEach((share, block, all) => { if (share !== null) rows.push({ block: block + 1, kind, share, last: block === all.length - 1 }); }));
      return { name: "profile", datasets: { table: rows }, patch: { width: width(node), autosize: FIT } };
    });
    profile.addEventListener("change", () => redraw("chart-profile"));
    report.watchers.push(() => {
      const order = ranked().map((row) => row[0]).filter((index) => index in target().profiles);
      profile.replaceChildren(...order.map((index, place) => option(index, `${place + 1}. ${models[index].name}`)));
    });
  }

  report.watchers.push(() => redraw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
  let wait = 0;
  addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(() => redraw(), 150); });
  addEventListener("beforeprint", () => { for (const [id, chart] of charts) if (chart.stale && document.getElementById(id).clientWidth) draw(id); });
  report.start();
})();
