(function () {
  "use strict";
  var source = document.getElementById("sweep-data"), slider = document.getElementById("confidence");
  if (!source || !slider) { return; }
  var curves = JSON.parse(source.textContent), cards = document.querySelectorAll(".card[data-confidence]");
  function show(value) { return value === null ? "–" : value.toFixed(value >= 10 ? 1 : 2); }
  function nearest(points, at) {
    return points.reduce(function (best, p) { return Math.abs(p[0] - at) < Math.abs(best[0] - at) ? p : best; });
  }
  // Cards fade only once somebody moves the slider: at the threshold in use all of them are visible.
  function update(event) {
    var at = Number(slider.value);
    document.getElementById("confidence-value").textContent = show(at);
    document.querySelectorAll("[data-sweep]").forEach(function (row) {
      var point = nearest(curves[row.dataset.sweep], at);
      row.querySelectorAll("[data-column]").forEach(function (cell) { cell.textContent = show(point[Number(cell.dataset.column)]); });
    });
    cards.forEach(function (card) {
      if (event && card.dataset.confidence) { card.classList.toggle("below", Number(card.dataset.confidence) < at); }
    });
  }
  slider.addEventListener("input", update);
  update();
}());
