// The confidence threshold: one value for the table, the line in the curves and the gallery, over all classes or for one.
(function () {
  "use strict";
  var source = document.getElementById("sweep-data"), sliders = document.querySelectorAll("input.threshold");
  var main = document.getElementById("confidence"), chosen = document.getElementById("sweep-class");
  var data = source ? JSON.parse(source.textContent) : null, moved = false;

  // Thresholds below 0.1 have a third digit: failing detectors work there.
  function level(value) { return value.toFixed(value < 0.1 ? 3 : 2); }
  function show(value) { return value === null || value === undefined ? "–" : value.toFixed(value >= 10 ? 1 : 2); }
  function nearest(values, at) {
    var low = 0, high = values.length - 1;
    while (high - low > 1) { var middle = (low + high) >> 1; if (values[middle] < at) { low = middle; } else { high = middle; } }
    return at - values[low] <= values[high] - at ? low : high;
  }
  function f1(precision, recall) { return precision && recall ? 2 * precision * recall / (precision + recall) : precision === null && recall === null ? null : 0; }
  // precision, recall, F1 and false positives per image of a domain at a place in its curve.
  function curve(domain) {
    var k = chosen ? chosen.value : "";
    if (k === "") {
      var points = data.curves[domain];
      return { at: points.map(function (p) { return p[0]; }), point: function (i) { return points[i].slice(1); } };
    }
    var columns = data.classes.curves[domain][Number(k)];
    return {
      at: data.classes.at,
      point: function (i) {
        var precision = columns[0][i], recall = columns[1][i];
        return [precision, recall, recall === null ? null : f1(precision, recall), columns[2][i]];
      }
    };
  }
  var rows = data ? Array.from(document.querySelectorAll("[data-sweep]")).map(function (row) {
    return { node: row, domain: row.dataset.sweep, cells: Array.from(row.querySelectorAll("[data-column]")) };
  }) : [];

  function fill(at) {
    rows.forEach(function (row) {
      var along = curve(row.domain), point = along.point(nearest(along.at, at));
      row.cells.forEach(function (cell, column) { cell.textContent = show(point[column]); });
    });
  }
  var lines = ["f1", "shares"].map(function (name) {
    var ends = [0, 1].map(function (place) { return document.getElementById("sweep-" + name + "-" + place); });
    var line = document.getElementById("sweep-" + name + "-at");
    return line && ends[0] && ends[1] ? { line: line, from: ends[0].getBBox().x, to: ends[1].getBBox().x } : null;
  }).filter(Boolean);

  function moveLines(at) {
    var start = Number(main.dataset.start);
    lines.forEach(function (l) { l.line.setAttribute("transform", "translate(" + ((at - start) * (l.to - l.from)).toFixed(2) + " 0)"); });
  }
  function update(at) {
    if (main) {
      document.getElementById("confidence-value").textContent = level(at);
      fill(at);
      moveLines(at);
    }
    if (moved) { document.dispatchEvent(new CustomEvent("shiftscope:threshold", { detail: at })); }
  }
  sliders.forEach(function (slider) {
    slider.addEventListener("input", function () {
      moved = true;
      sliders.forEach(function (other) { other.value = slider.value; });
      document.querySelectorAll(".threshold-value").forEach(function (words) { words.textContent = level(Number(slider.value)); });
      update(Number(slider.value));
    });
  });
  document.addEventListener("shiftscope:reset", function () { moved = false; });

  // The highest threshold with at least the wanted recall, by domain.
  var wanted = document.getElementById("wanted-recall"), answer = document.getElementById("recall-thresholds");
  function recall() {
    var share = Number(wanted.value) / 100;
    if (!(share > 0 && share <= 1)) { answer.textContent = "a recall from 1 to 100 %."; return; }
    answer.textContent = rows.filter(function (row) { return !row.node.classList.contains("elsewhere"); }).map(function (row) {
      var along = curve(row.domain);
      for (var i = along.at.length - 1; i >= 0; i -= 1) {
        var point = along.point(i);
        if (point[1] !== null && point[1] >= share) { return row.domain + " " + level(along.at[i]) + " (precision " + show(point[0]) + ")"; }
      }
      return row.domain + " none";
    }).join("; ") + ".";
  }
  if (wanted && rows.length) { wanted.addEventListener("input", recall); recall(); }
  document.addEventListener("shiftscope:domain", function () { if (wanted) { recall(); } });
  if (chosen) { chosen.addEventListener("change", function () { update(Number(main.value)); recall(); }); }
  if (main) { update(Number(main.value)); }
}());
