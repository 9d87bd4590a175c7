// What is cut, sticks out, overlaps or is broken on a page, as a list of sentences; empty where all is well.
() => {
  const SLACK = 1.5, LONGEST_WORD = 24; // pixels; a longer run of letters is no word, and may be broken
  const main = document.querySelector("main"), page = document.documentElement;
  const faults = [];
  const name = (node) => {
    const place = node.closest("[id]");
    const text = (node.textContent || "").trim().replace(/\s+/g, " ").slice(0, 60);
    return `${node.tagName.toLowerCase()}${node.getAttribute("class") ? "." + node.getAttribute("class") : ""} in #${place ? place.id : ""} "${text}"`;
  };
  const clipped = (node) => node && (getComputedStyle(node).clipPath !== "none" || clipped(node.parentElement)); // for screen readers alone
  const visible = (node) => node.checkVisibility({ visibilityProperty: true }) && node.getClientRects().length > 0 && !clipped(node);
  if (page.scrollWidth > page.clientWidth) faults.push(`the page is ${page.scrollWidth} wide in ${page.clientWidth}`);

  // Boxes whose content is wider than they are, the innermost of them.
  const nodes = [...document.querySelectorAll("header *, main *, footer *")].filter((node) => !node.ownerSVGElement && !["OPTION", "SELECT", "INPUT", "TEXTAREA"].includes(node.tagName) && visible(node));
  const wide = nodes.filter((node) => !["inline", "contents"].includes(getComputedStyle(node).display) && node.clientWidth > 0 && node.scrollWidth > node.clientWidth + SLACK);
  for (const node of wide) {
    if (!wide.some((other) => other !== node && node.contains(other))) faults.push(`cut or sticking out, ${node.scrollWidth} in ${node.clientWidth}: ${name(node)}`);
  }
  for (const node of nodes) {
    if (getComputedStyle(node).overflowY !== "visible" && node.clientHeight > 0 && node.scrollHeight > node.clientHeight + SLACK && node.tagName !== "HTML") faults.push(`cut below, ${node.scrollHeight} in ${node.clientHeight}: ${name(node)}`);
  }
  for (const table of document.querySelectorAll("main table")) {
    if (!visible(table)) continue;
    const box = table.parentElement.getBoundingClientRect(), own = table.getBoundingClientRect();
    if (own.right > box.right + SLACK) faults.push(`table wider than its place by ${Math.round(own.right - box.right)}: ${name(table)}`);
    const range = document.createRange();
    for (const cell of table.querySelectorAll("th, td")) {
      if (!visible(cell) || cell.querySelector(".hidden")) continue;
      range.selectNodeContents(cell);
      const inner = range.getBoundingClientRect(), outer = cell.getBoundingClientRect();
      if (inner.width && inner.right > outer.right + SLACK) faults.push(`out of its cell by ${Math.round(inner.right - outer.right)}: ${name(cell)}`);
    }
  }

  // Words broken in the middle.
  const walker = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode, holder = node.parentElement;
    if (!node.data.trim() || holder.ownerSVGElement || holder.closest("script, style, pre, code, option") || !visible(holder)) continue;
    for (const word of node.data.matchAll(/[\p{L}\p{N}]{2,}/gu)) {
      if (word[0].length > LONGEST_WORD) continue;
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].filter((r) => r.width > 0).map((r) => Math.round(r.top)));
      if (tops.size > 1) faults.push(`word broken, "${word[0]}": ${name(holder)}`);
    }
  }

  // Texts of the charts: within their picture, whole, and none over another.
  const corners = (text) => {
    const box = text.getBBox(), matrix = text.getScreenCTM();
    return [[box.x, box.y], [box.x + box.width, box.y], [box.x + box.width, box.y + box.height], [box.x, box.y + box.height]]
      .map(([x, y]) => [matrix.a * x + matrix.c * y + matrix.e, matrix.b * x + matrix.d * y + matrix.f]);
  };
  const apart = (one, two) => [one, two].some((shape) => shape.some((point, index) => {
    const next = shape[(index + 1) % 4], axis = [next[1] - point[1], point[0] - next[0]], length = Math.hypot(...axis) || 1;
    const along = (corner) => (corner[0] * axis[0] + corner[1] * axis[1]) / length;
    const [a, b] = [one.map(along), two.map(along)];
    return Math.min(Math.max(...a), Math.max(...b)) - Math.max(Math.min(...a), Math.min(...b)) < 2 * SLACK;
  }));
  for (const chart of document.querySelectorAll("main .chart")) {
    const picture = chart.querySelector("svg");
    if (!visible(chart)) continue;
    if (!picture) { if (!chart.textContent.trim()) faults.push(`nothing drawn: ${name(chart)}`); continue; }
    const frame = picture.getBoundingClientRect();
    if (frame.right > page.clientWidth + SLACK || frame.left < -SLACK) faults.push(`chart outside the page: ${name(chart)}`);
    const texts = [...picture.querySelectorAll("text")].filter((text) => text.textContent.trim() && Number(getComputedStyle(text).opacity) > 0.05 && text.getBBox().width);
    const shapes = texts.map(corners);
    texts.forEach((text, i) => {
      if (text.textContent.includes("…")) faults.push(`truncated in #${chart.id}: "${text.textContent}"`);
      const xs = shapes[i].map((corner) => corner[0]), ys = shapes[i].map((corner) => corner[1]);
      if (Math.min(...xs) < frame.left - SLACK || Math.max(...xs) > frame.right + SLACK || Math.min(...ys) < frame.top - 2 * SLACK || Math.max(...ys) > frame.bottom + 2 * SLACK) faults.push(`label outside #${chart.id}: "${text.textContent}"`);
      for (let j = 0; j < i; j++) if (!apart(shapes[i], shapes[j])) faults.push(`labels over each other in #${chart.id}: "${text.textContent}" and "${texts[j].textContent}"`);
    });
  }
  return [...new Set(faults)];
}
