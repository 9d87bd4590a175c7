// Shows the rows that hold all words searched for.
"use strict";
(() => {
  const find = document.getElementById("find"), count = document.getElementById("count");
  const rows = [...document.querySelectorAll("#runs tbody tr")].map((row) => ({ row, text: row.textContent.toLowerCase() }));
  const refresh = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row, text } of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = shown < rows.length ? `${shown} of ${rows.length} answers` : `${rows.length} answers`;
  };
  find.addEventListener("input", refresh);
  refresh();
})();
