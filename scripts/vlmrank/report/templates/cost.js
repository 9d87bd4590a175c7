// Quality against cost: the models, the line of those that none beats, limits to drag, labels that do not meet.
"use strict";
(() => {
  const { data, models, element, named, fixed, percent, count, digits, target, ranked } = report;
  const node = document.getElementById("chart-cost");
  if (!node) return;
  const [measure, costLimit, qualityLimit] = ["cost-measure", "cost-limit", "quality-limit"].map((id) => document.getElementById(id));
  const [costValue, qualityValue, answer, legend] = ["cost-limit-value", "quality-limit-value", "cost-answer", "cost-legend"].map((id) => document.getElementById(id));
  const best = document.querySelector("#best-table tbody");
  const MEASURES = [
    { label: "GFLOPs per image", of: (m) => m.gflops, text: digits },
    { label: "parameters", of: (m) => m.parameters, text: count },
    { label: "download, bytes", of: (m) => m.bytes, text: (v) => `${count(v)}B` },
    { label: "ms per image, as measured here", of: (m) => (m.speed ? 1000 / m.speed : null), text: digits },
  ].filter((item) => models.some(item.of));
  MEASURES.forEach((item, index) => measure.append(element("option", { value: index }, item.label)));
  const COLOURS = ["#2d7ba0", "#c8702a", "#5b8c3a", "#a45fa0", "#b0503c", "#7a7a2a", "#3f8f8a", "#84909c"];
  const SHAPES = [
    "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0 -4.5 0Z", "M-4 -4H4V4H-4Z", "M0 -5.5L5 4H-5Z", "M0 -6L6 0L0 6L-6 0Z",
    "M-5 -4H5L0 5.5Z", "M-2 -5H2V-2H5V2H2V5H-2V2H-5V-2H-2Z", "M-5.5 -2.5H5.5V2.5H-5.5Z", "M-2.5 -5.5H2.5V5.5H-2.5Z",
  ];
  const families = [...new Set(models.map((model) => model.family))].sort();
  const look = (family) => { const i = families.indexOf(family); return { colour: COLOURS[i % COLOURS.length], shape: SHAPES[(i + Math.floor(i / COLOURS.length)) % SHAPES.length] }; };
  const shape = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const steps = (low, high, most) => { // round numbers between two
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find((s) => s * power >= rough) * power;
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + 1e-12; value += step) found.push(value);
    return found;
  };
  const decades = (low, high, most) => { // 1, 2 and 5 times the powers of ten, thinned
    for (const parts of [[1, 2, 5], [1, 3], [1]]) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) for (const part of parts) { const value = part * 10 ** power; if (value >= low && value <= high) found.push(value); }
      if (found.length <= most) return found;
    }
    return [low, high];
  };

  const points = () => {
    const { of } = MEASURES[measure.value], rows = ranked(), expected = rows.some((row) => row[9][0] !== null);
    return { expected, points: rows.map((row, place) => ({ model: models[row[0]], rank: row[1], first: place === 0, cost: of(models[row[0]]), quality: expected ? row[9][0] : row[2] })).filter((p) => p.cost > 0 && p.quality !== null) };
  };
  const front = (all) => {
    let top = -Infinity;
    return [...all].sort((a, b) => a.cost - b.cost || b.quality - a.quality).filter((p) => p.quality > top && ((top = p.quality), true));
  };

  const draw = () => {
    node.replaceChildren();
    if (!MEASURES.length) { node.textContent = "No model's cost is known."; return; }
    const { expected, points: all } = points();
    if (!all.length) { node.textContent = "Nothing to draw."; answer.textContent = ""; return; }
    const W = Math.max(220, node.clientWidth), H = 340, L = 52, R = 14, T = 22, B = 46;
    const costs = all.map((p) => p.cost), qualities = all.map((p) => p.quality);
    const low = Math.min(...costs) / 1.4, high = Math.max(...costs) * 1.4;
    const spread = Math.max(...qualities) - Math.min(...qualities) || 0.1;
    const bottom = Math.min(...qualities) - 0.08 * spread, top = Math.max(...qualities) + 0.14 * spread;
    const x = (cost) => L + ((W - L - R) * Math.log(cost / low)) / Math.log(high / low);
    const y = (quality) => H - B - ((H - T - B) * (quality - bottom)) / (top - bottom);
    const { label, text } = MEASURES[measure.value];
    const most = costLimit.value === "100" ? Infinity : low * (high / low) ** (costLimit.value / 100);
    const least = qualityLimit.value === "0" ? -Infinity : bottom + ((top - bottom) * qualityLimit.value) / 100;
    const quality = (value) => (expected ? percent(value) : fixed(value, 3));
    costValue.textContent = most === Infinity ? "any" : text(most);
    qualityValue.textContent = least === -Infinity ? "any" : quality(least);
    document.getElementById("cost-quality").textContent = expected ? "Expected accuracy" : "Score";
    const within = all.filter((p) => p.cost <= most && p.quality >= least), line = front(all);
    answer.replaceChildren(`${within.length} of ${all.length} models are within the limits`, ...(within.length ? ["; the first of them is ", element("b", {}, named(within[0].model.name)), ` (${text(within[0].cost)} ${label.split(",")[0]}${expected ? `, expected accuracy ${quality(within[0].quality)}` : ""}).`] : ["."]));

    const svg = shape("svg", { width: W, height: H, viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${expected ? "Expected accuracy" : "Score"} against ${label} of ${all.length} models` });
    const write = (where, content, attributes) => { const made = shape("text", { ...where, "font-size": 12, ...attributes }, content); svg.append(made); return made; };
    for (const value of decades(low, high, Math.floor((W - L - R) / 64))) {
      svg.append(shape("line", { class: "grid", x1: x(value), x2: x(value), y1: T, y2: H - B }));
      write({ x: x(value), y: H - B + 16 }, text(value), { "text-anchor": "middle", class: "axis" });
    }
    for (const value of steps(bottom, top, 5)) {
      svg.append(shape("line", { class: "grid", x1: L, x2: W - R, y1: y(value), y2: y(value) }));
      write({ x: L - 6, y: y(value) + 4 }, expected ? `${Number((100 * value).toFixed(1))}%` : Number(value.toPrecision(3)), { "text-anchor": "end", class: "axis" });
    }
    write({ x: (L + W - R) / 2, y: H - 8 }, `${label} (logarithmic)`, { "text-anchor": "middle", class: "axis" });
    write({ x: 0, y: 12 }, expected ? "expected accuracy" : "score (higher is better)", { class: "axis" });
    svg.append(shape("path", { class: "front", d: line.map((p, i) => (i ? `H${x(p.cost)}V${y(p.quality)}` : `M${x(p.cost)} ${y(p.quality)}`)).join("") + `H${W - R}` }));
    if (most < Infinity) svg.append(shape("line", { class: "limit", x1: x(most), x2: x(most), y1: T, y2: H - B }));
    if (least > -Infinity) svg.append(shape("line", { class: "limit", x1: L, x2: W - R, y1: y(least), y2: y(least) }));
    const inside = new Set(within);
    for (const p of [...all].reverse()) {
      const { colour, shape: path } = look(p.model.family);
      const mark = shape("path", { d: path, transform: `translate(${x(p.cost)} ${y(p.quality)})${p.first ? " scale(1.6)" : ""}`, fill: colour, opacity: inside.has(p) ? 0.9 : 0.2 });
      mark.append(shape("title", {}, `${p.model.name}: rank ${p.rank}, ${text(p.cost)} ${label.split(",")[0]}, ${quality(p.quality)}`));
      svg.append(mark);
    }
    node.append(svg);

    // labels: the first model, then the line from the top; each where there is room, else none
    const taken = [...svg.querySelectorAll("text.axis")].map((one) => one.getBBox());
    taken.push(...line.map((p) => ({ x: x(p.cost) - 5, y: y(p.quality) - 5, width: 10, height: 10 })));
    const free = (box) => box.x >= L && box.x + box.width <= W - R && box.y >= T - 12 && box.y + box.height <= H - B && taken.every((other) => box.x > other.x + other.width + 3 || other.x > box.x + box.width + 3 || box.y > other.y + other.height + 2 || other.y > box.y + box.height + 2);
    for (const p of [...all.filter((one) => one.first), ...[...line].reverse().filter((one) => !one.first)]) {
      const made = write({ x: 0, y: 0 }, p.model.name, { class: p.first ? "name first" : "name" });
      const size = made.getBBox(), px = x(p.cost), py = y(p.quality), gap = p.first ? 12 : 9;
      const places = [[px - size.width - gap, py - 4], [px - size.width / 2, py - gap - 4], [px + gap, py + 4], [px - size.width / 2, py + gap + 11], [px - size.width - 4, py - gap - 4], [px + 4, py + gap + 11], [W - R - size.width, py - gap - 4], [L + 2, py - gap - 4], [L + 2, py + gap + 11], [W - R - size.width, py + gap + 11]];
      const found = places.find(([left, base]) => free({ x: left, y: base - 11, width: size.width, height: 14 }));
      if (!found) { made.remove(); continue; }
      made.setAttribute("x", found[0]);
      made.setAttribute("y", found[1]);
      taken.push({ x: found[0], y: found[1] - 11, width: size.width, height: 14 });
    }
  };

  const fill = () => {
    const seen = new Set(), rows = [], shown = new Set(ranked().map((row) => models[row[0]].family));
    for (const row of ranked()) {
      const model = models[row[0]];
      if (seen.has(model.group)) continue;
      seen.add(model.group);
      rows.push(element("tr", {}, element("th", { scope: "row" }, named(model.group)), element("td", { "data-label": "Its best checkpoint" }, named(model.name)), element("td", { class: "n", "data-label": "Rank" }, String(row[1])), element("td", { class: "n", "data-label": "Parameters" }, count(model.parameters)), element("td", { class: "n", "data-label": "GFLOPs" }, digits(model.gflops))));
    }
    best.replaceChildren(...rows);
    legend.replaceChildren(...families.filter((family) => shown.has(family)).map((family) => {
      const { colour, shape: path } = look(family), icon = shape("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" });
      icon.append(shape("path", { d: path, fill: colour }));
      return element("li", {}, icon, family);
    }));
    draw();
  };
  for (const control of [costLimit, qualityLimit]) control.addEventListener("input", draw);
  measure.addEventListener("change", () => { costLimit.value = "100"; draw(); });
  let wait = 0;
  addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(draw, 150); });
  report.watchers.push(fill);
})();
