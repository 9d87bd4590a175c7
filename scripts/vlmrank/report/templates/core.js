// State and helpers shared by the table and the charts. Text only ever enters the page through textContent.
"use strict";
const report = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const models = data.models.map(([name, architecture, family, parameters, imageParameters, gflops, bytes, speed, code, weights], index) => ({
    index, name, architecture, family, parameters, imageParameters, gflops, bytes, speed, code, weights, group: name.split("--")[0],
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
  // A name that a narrow column breaks after its separators and nowhere else.
  const named = (text) => {
    const node = element("span");
    for (const part of String(text).match(/[^-_/.:\s]{1,18}[-_/.:\s]*|[-_/.:\s]+/g) || []) node.append(...(node.childNodes.length ? [element("wbr")] : []), part);
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
  const digits = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toLocaleString("en"));
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
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const code = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // at least it is marked, to be copied by hand
        button.textContent = "Selected";
      }
    });
  }
  return { data, models, state, watchers, element, named, fixed, percent, count, digits, target, ranked, start };
})();
