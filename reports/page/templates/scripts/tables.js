// Tables: a heading sorts its column, long tables get a filter, and the domain picker hides the rows of other domains.
(function () {
  "use strict";
  var LONG = 10;

  // The number that a cell begins with; text sorts after numbers, empty cells and dashes last.
  function key(cell) {
    var text = cell ? cell.textContent.trim() : "";
    if (text === "" || text === "–") { return [2, 0, ""]; }
    var match = /^[+\-−]?[\d,]*\.?\d+/.exec(text);
    if (!match) { return [1, 0, text.toLowerCase()]; }
    return [0, Number(match[0].replace(/,/g, "").replace("−", "-")), ""];
  }
  function compare(a, b, sign) {
    if (a[0] !== b[0]) { return a[0] - b[0]; }
    return sign * (a[0] === 0 ? a[1] - b[1] : a[2] < b[2] ? -1 : a[2] > b[2] ? 1 : 0);
  }

  function makeSortable(table) {
    var body = table.tBodies[0], headings = table.querySelectorAll("thead th");
    if (body.rows.length < 2) { return; }
    headings.forEach(function (heading, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (heading.firstChild) { button.appendChild(heading.firstChild); }
      heading.appendChild(button);
      button.addEventListener("click", function () {
        // Numbers begin with the largest, words with the first.
        var before = heading.getAttribute("aria-sort");
        var next = before ? (before === "ascending" ? "descending" : "ascending")
          : heading.classList.contains("n") ? "descending" : "ascending";
        headings.forEach(function (other) { other.removeAttribute("aria-sort"); });
        heading.setAttribute("aria-sort", next);
        var sign = next === "ascending" ? 1 : -1;
        Array.from(body.rows)
          .map(function (row, order) { return { row: row, key: key(row.cells[column]), order: order }; })
          .sort(function (a, b) { return compare(a.key, b.key, sign) || a.order - b.order; })
          .forEach(function (entry) { body.appendChild(entry.row); });
      });
    });
  }

  function addFilter(table) {
    var rows = Array.from(table.tBodies[0].rows), box = table.closest(".scroll") || table;
    if (rows.length < LONG) { return; }
    var label = document.createElement("label"), input = document.createElement("input"), count = document.createElement("output");
    label.className = "find small";
    label.append("Rows with ", input, " ", count);
    input.type = "search";
    input.addEventListener("input", function () {
      var words = input.value.toLowerCase().split(/\s+/), shown = 0;
      rows.forEach(function (row) {
        var text = row.textContent.toLowerCase();
        var fits = words.every(function (word) { return text.indexOf(word) >= 0; });
        row.classList.toggle("filtered", !fits);
        shown += fits ? 1 : 0;
      });
      count.textContent = input.value ? shown + " of " + rows.length : "";
    });
    box.parentNode.insertBefore(label, box);
  }

  document.querySelectorAll("table:not(.matrix)").forEach(function (table) {
    if (!table.tHead || !table.tBodies.length) { return; }
    makeSortable(table);
    addFilter(table);
  });
  // Scrollable tables can be reached with the keyboard, and say what they are.
  document.querySelectorAll(".scroll:not([aria-label])").forEach(function (box) {
    var heading = box.previousElementSibling;
    while (heading && !/^(H2|H3|SUMMARY)$/.test(heading.tagName)) { heading = heading.previousElementSibling; }
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Table: " + (heading ? heading.textContent.trim() : "figures"));
  });

  var picker = document.querySelector("#domain-picker select");
  if (!picker) { return; }
  // The table of all domains stays whole: it is how another one is found.
  var about = Array.from(document.querySelectorAll("main [data-domain]")).filter(function (part) { return !part.closest("[data-test=domains]"); });
  function pick() {
    about.forEach(function (part) {
      var name = part.dataset.domain;
      if (part.tagName === "DETAILS" && name === picker.value) { part.open = true; }
      part.classList.toggle("elsewhere", picker.value !== "" && name !== picker.value && name !== picker.dataset.always && name !== "training");
    });
    document.dispatchEvent(new CustomEvent("shiftscope:domain", { detail: picker.value }));
  }
  picker.parentNode.hidden = false;
  picker.addEventListener("change", pick);
  document.querySelectorAll("[data-picks]").forEach(function (button) {
    button.addEventListener("click", function () {
      picker.value = button.dataset.picks;
      pick();
      document.getElementById("hypotheses").scrollIntoView();
    });
  });
  // Many domains are a table first, and one at a time below.
  document.addEventListener("DOMContentLoaded", function () {
    if (picker.dataset.many && picker.dataset.focus) { picker.value = picker.dataset.focus; pick(); }
  });
}());
