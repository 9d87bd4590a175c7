// State and helpers shared by the table and the charts. Text only ever enters the page through textContent.
"use strict";
const report = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [NAME, LABEL, FAMILY, PARAMETERS, IMAGE_PARAMETERS, GFLOPS, WEIGHTS] = [0, 1, 2, 3, 4, 5, 6];
  const models = data.models.map((row, index) => ({
    index, name: row[NAME], label: row[LABEL], family: row[FAMILY],
    parameters: row[PARAMETERS], imageParameters: row[IMAGE_PARAMETERS], gflops: row[GFLOPS], weights: row[WEIGHTS],
  }));
  const state = { target: 0 };
  const watchers = [];

  const element = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
  const percent = (value, digits = 0) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)}%`);
  const count = (value) => {
    if (value === null || value === undefined) return "–";
    if (value >= 1e9) return `${Number((value / 1e9).toPrecision(3))} B`;
    if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))} M`;
    if (value >= 1e3) return `${Number((value / 1e3).toPrecision(3))} k`;
    return String(value);
  };
  const target = () => data.targets[state.target];
  const ranked = () => target().rows.filter((row) => row[1] !== null).sort((a, b) => a[1] - b[1]);

  const show = (index) => {
    state.target = index;
    for (const node of document.querySelectorAll("[data-target]")) node.hidden = Number(node.dataset.target) !== index;
    for (const node of document.querySelectorAll("[data-name]")) node.textContent = target().name;
    for (const watcher of watchers) watcher();
  };
  const start = () => {
    if (!data.targets.length) { watchers.forEach((watcher) => watcher()); return; }
    const choice = document.getElementById("target");
    const wanted = decodeURIComponent(location.hash.replace(/^#task=/, ""));
    const index = Math.max(0, data.targets.findIndex((item) => item.name === wanted));
    if (choice) {
      choice.value = String(index);
      choice.addEventListener("change", () => {
        history.replaceState(null, "", `#task=${encodeURIComponent(data.targets[choice.value].name)}`);
        show(Number(choice.value));
      });
    }
    show(index);
  };
  return { data, models, state, watchers, element, fixed, percent, count, target, ranked, start };
})();
