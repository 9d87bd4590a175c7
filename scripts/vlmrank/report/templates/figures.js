// The charts: Vega-Lite specifications from Python, filled with the page's data, drawn when they come into view.
"use strict";
(() => {
  const { data, models, element, target, ranked } = report;
  const charts = new Map(); // id -> { build, stale, view }
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const config = (node) => ({
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
    axis: { labelColor: color("--soft"), titleColor: color("--soft"), gridColor: color("--line"), domainColor: color("--line"), tickColor: color("--line"), titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 12, labelLimit: Math.max(130, Math.min(360, 0.4 * node.clientWidth)) },
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
    const { metrics, summary, values } = data.evaluation;
    metrics.forEach((item, index) => metric.append(option(index, item.label)));
    const direction = document.getElementById("metric-direction");
    add("chart-evaluation", (node) => {
      const chosen = metrics[metric.value];
      direction.textContent = `${chosen.higher ? "Higher (right)" : "Lower (left)"} is better.`;
      const sign = chosen.higher ? -1 : 1;
      const rows = summary.filter((row) => row[1] === chosen.name && row[2] !== null).sort((a, b) => sign * (a[2] - b[2]));
      const place = new Map(rows.map((row, index) => [row[0], index]));
      const label = (method) => data.evaluation.labels[method];
      return {
        name: "evaluation",
        datasets: {
          table: rows.map(([method, , mean, low, high]) => ({ label: label(method), mean, ci_low: low ?? mean, ci_high: high ?? mean, group: data.evaluation.groups[method], place: place.get(method) })),
          tasks: values.filter((row) => row[1] === chosen.name && place.has(row[0])).map(([method, , task, value]) => ({ label: label(method), task, value, place: place.get(method) })),
        },
        patch: { width: width(node), height: 24 * rows.length, autosize: FIT },
        edit: (spec) => { for (const layer of spec.layer) if (layer.encoding.color.legend) layer.encoding.color.legend.columns = node.clientWidth < 600 ? 1 : 3; },
      };
    });
    metric.addEventListener("change", () => redraw("chart-evaluation"));
  }

  // similarity of tasks
  const similar = document.getElementById("similarity-model");
  if (similar) {
    for (const index of Object.keys(data.divergences)) similar.append(option(index, models[index].label));
    const matrix = () => (similar.value === "" ? data.pooled : decode(data.divergences[similar.value], data.datasets.length));
    add("chart-similarity", (node) => {
      const names = data.datasets, values = matrix(), rows = [];
      values.forEach((line, i) => line.forEach((divergence, j) => { if (divergence !== null) rows.push({ source: names[i], target: names[j], divergence }); }));
      const side = Math.max(13, Math.min(26, Math.floor((width(node) - 150) / names.length)));
      return { name: "similarity", datasets: { table: rows }, patch: { width: side * names.length, height: side * names.length } };
    });
    const list = document.getElementById("nearest");
    const nearest = () => {
      if (!list) return;
      const column = data.datasets.indexOf(target().name), tasks = new Set(data.targets.map((item) => item.name));
      const found = matrix().map((line, i) => [data.datasets[i], line[column]]).filter(([name, value]) => !tasks.has(name) && value !== null && value !== undefined).sort((a, b) => a[1] - b[1]);
      const largest = Math.max(...found.map((item) => item[1]), 1e-9);
      list.replaceChildren(...found.map(([name, value]) => element("li", {}, element("span", {}, name),
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
      profile.replaceChildren(...order.map((index, place) => option(index, `${place + 1}. ${models[index].label}`)));
    });
  }

  // cost
  add("chart-cost", (node) => {
    const rows = ranked(), key = ["gflops", "parameters"].find((name) => rows.some((row) => models[row[0]][name] !== null));
    const points = rows.filter((row) => models[row[0]][key]).map((row) => ({ model: models[row[0]].label, family: models[row[0]].family, cost: models[row[0]][key], score: row[2], rank: row[1], first: row === rows[0] }));
    if (!key || !points.length) return null;
    const title = key === "gflops" ? "GFLOPs per image (logarithmic)" : "parameters (logarithmic)";
    return { name: "cost", datasets: { table: points }, patch: { width: width(node), autosize: FIT }, edit: (spec) => { Object.assign(spec.layer[0].encoding.x, { title, axis: { format: key === "gflops" ? "~g" : "~s", tickCount: 6 } }); } };
  });

  report.watchers.push(() => redraw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
  let wait = 0;
  addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(() => redraw(), 150); });
  addEventListener("beforeprint", () => { for (const [id, chart] of charts) if (chart.stale) draw(id); });
  report.start();
})();
