// The confidence threshold: one value for the table, the line in the curves and the gallery, over all classes or for one,
// whose curves are then drawn.
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
    if (!line || !ends[0] || !ends[1]) { return null; }
    var box = ends[0].getBBox();
    return { name: name, line: line, from: box.x, to: ends[1].getBBox().x, top: box.y, bottom: box.y + box.height };
  }).filter(Boolean);

  function moveLines(at) {
    var start = Number(main.dataset.start);
    lines.forEach(function (l) { l.line.setAttribute("transform", "translate(" + ((at - start) * (l.to - l.from)).toFixed(2) + " 0)"); });
  }
  // The curves of the chosen class in place of those of all. Position in a point of a curve, by the name of its line.
  var PLACES = { f1: { f1: 2 }, shares: { precision: 0, recall: 1 } };
  function drawCurves() {
    var whose = document.getElementById("sweep-of");
    if (whose) { whose.textContent = chosen.value === "" ? "all classes together" : "class " + chosen.options[chosen.selectedIndex].text; }
    lines.forEach(function (plot) {
      function x(value) { return (plot.from + value * (plot.to - plot.from)).toFixed(2); }
      function y(value) { return (plot.bottom - value / data.top * (plot.bottom - plot.top)).toFixed(2); }
      data.in_figure.forEach(function (domain, number) {
        var along = curve(domain);
        Object.keys(PLACES[plot.name]).forEach(function (name) {
          var path = document.querySelector("#curve-" + name + "-" + number + " path"), d = "", best = -1, highest = -1;
          if (!path) { return; }
          along.at.forEach(function (at, i) {
            var value = along.point(i)[PLACES[plot.name][name]];
            if (value === null || value === undefined) { return; }
            d += (d === "" ? "M " : "L ") + x(at) + " " + y(value) + " ";
            if (value > highest) { highest = value; best = i; }
          });
          path.setAttribute("d", d);
          var mark = name === "f1" && document.querySelector("#best-f1-" + number + " use");
          if (!mark) { return; }
          mark.style.display = best < 0 ? "none" : "";
          if (best >= 0) { mark.setAttribute("x", x(along.at[best])); mark.setAttribute("y", y(highest)); }
        });
      });
    });
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
  if (chosen) { chosen.addEventListener("change", function () { update(Number(main.value)); recall(); drawCurves(); }); }
  if (main) { update(Number(main.value)); }
}());
