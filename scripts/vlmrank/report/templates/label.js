"use strict";
// The page of `vlmrank label`: one image at a time, its class by button or key; the answers leave as a CSV.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const UNSURE = data.unsure, KEY = "vlmrank label " + data.target + " " + data.key;
const answers = new Map(data.images.filter((image) => image.label).map((image) => [image.id, image.label]));
let place = 0;

function remember() {
  try { localStorage.setItem(KEY, JSON.stringify([...answers])); } catch { /* a browser may refuse: the file remains */ }
}
function recall() {
  try {
    const known = new Set(data.images.map((image) => image.id));
    for (const [image, label] of JSON.parse(localStorage.getItem(KEY) || "[]"))
      if (known.has(image) && (label === UNSURE || data.classes.includes(label))) answers.set(image, label);
  } catch { /* nothing was kept */ }
}
function shown() {
  const wanted = at("find").value.trim().toLowerCase();
  return data.classes.filter((name) => name.toLowerCase().includes(wanted));
}
function draw() {
  const image = data.images[place], answer = answers.get(image.id);
  at("picture").src = image.data;
  at("picture").alt = image.data ? "Image " + (place + 1) : "";
  at("caption").textContent = `${place + 1} of ${data.images.length}: ${image.id}` + (image.reason ? ` (${image.reason})` : "");
  at("classes").replaceChildren(...shown().map((name, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    if (index < 9) {
      const key = document.createElement("kbd");
      key.textContent = index + 1;
      button.append(" ", key);
    }
    button.setAttribute("aria-pressed", String(answer === name));
    button.addEventListener("click", () => choose(name));
    return button;
  }));
  at("unsure").setAttribute("aria-pressed", String(answer === UNSURE));
  const count = data.images.filter((one) => answers.has(one.id)).length;
  at("state").textContent = `${count} of ${data.images.length} answered.` + (count === data.images.length ? " Save the file." : "");
}
function choose(label) {
  answers.set(data.images[place].id, label);
  at("find").value = "";
  remember();
  move(1);
}
function move(step) {
  place = Math.min(Math.max(place + step, 0), data.images.length - 1);
  draw();
}
function clear() {
  answers.delete(data.images[place].id);
  remember();
  draw();
}
const cell = (text) => /[",\r\n;\t]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text;
function csv() {
  const rows = data.images.map((image) => [image.id, image.path, answers.get(image.id) || ""]);
  return [["image", "path", "label"], ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = data.target + ".csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
const KEYS = { 0: () => choose(UNSURE), ArrowLeft: () => move(-1), ArrowRight: () => move(1), Delete: clear, Backspace: clear, s: save };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === at("find")) {
    if (event.key === "Enter" && shown().length) choose(shown()[0]);
    return;
  }
  if (/^[1-9]$/.test(event.key) && shown()[event.key - 1]) choose(shown()[event.key - 1]);
  else if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
});
at("find").addEventListener("input", draw);
for (const [id, action] of [["unsure", () => choose(UNSURE)], ["back", () => move(-1)], ["next", () => move(1)], ["clear", clear], ["save", save]])
  at(id).addEventListener("click", action);
recall();
place = Math.max(data.images.findIndex((image) => !answers.has(image.id)), 0);
draw();
