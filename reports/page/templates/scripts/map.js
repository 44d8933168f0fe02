// The embedding map: the image under the pointer, other colours, the arrow keys, and the way to the whole image.
(function () {
  "use strict";
  var figure = document.getElementById("embedding-map"), source = document.getElementById("map-data");
  if (!figure || !source) { return; }
  var data = JSON.parse(source.textContent), svg = figure.querySelector("svg"), dots = Array.from(svg.querySelectorAll("circle"));
  var card = document.getElementById("map-card"), tile = card.querySelector(".tile"), words = card.querySelector("span");
  var legend = document.getElementById("map-legend"), chooser = document.getElementById("colour-by"), select = chooser.querySelector("select");
  var COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a"], MOST = COLOURS.length;
  // As in the gallery: green is right, red is a false positive, yellow is missed.
  var OUTCOMES = { "all right": "#3cb450", "false positives": "#e62828", "missed objects": "#e6a700", "missed objects and false positives": "#dc50c8", "not labelled": "#8a8a8a" };
  var OPENS = " · click for the whole image";
  var own = dots.map(function (dot) { return dot.getAttribute("fill"); }), ownLegend = legend.innerHTML, current = -1;

  function colour() {
    var column = select.value;
    if (column === "domain") {
      dots.forEach(function (dot, i) { dot.setAttribute("fill", own[i]); });
      legend.innerHTML = ownLegend;
      return;
    }
    var counts = {};
    data.codes[column].forEach(function (code) { counts[code] = (counts[code] || 0) + 1; });
    // The most frequent values have a colour of their own, the rest share grey.
    var order = Object.keys(counts).sort(function (a, b) { return counts[b] - counts[a]; });
    var own_colours = order.length > MOST ? MOST - 1 : MOST, of = {};
    order.forEach(function (code, i) { of[code] = column === "outcome" ? OUTCOMES[data.values[column][code]] : i < own_colours ? COLOURS[i] : COLOURS[MOST - 1]; });
    dots.forEach(function (dot, i) { dot.setAttribute("fill", of[data.codes[column][i]]); });
    legend.textContent = "";
    order.slice(0, own_colours).concat(order.length > own_colours ? ["rest"] : []).forEach(function (code) {
      var entry = document.createElement("span"), mark = document.createElement("span");
      mark.className = "dot";
      mark.style.background = code === "rest" ? COLOURS[MOST - 1] : of[code];
      entry.append(mark, code === "rest" ? "others" : data.values[column][code]);
      legend.append(entry);
    });
  }
  function show(i) {
    if (current >= 0) { dots[current].classList.remove("current"); }
    current = i;
    card.hidden = i < 0;
    if (i < 0) { return; }
    dots[i].classList.add("current");
    var place = data.place[i], side = data.tile;
    tile.hidden = place < 0 || !data.sheet;
    if (!tile.hidden) {
      tile.style.backgroundImage = "url(" + data.sheet + ")";
      tile.style.backgroundPosition = -(place % data.columns) * side + "px " + -Math.floor(place / data.columns) * side + "px";
    }
    var parts = ["domain", "outcome", "class", "group"].map(function (column) { return data.values[column][data.codes[column][i]]; });
    words.textContent = data.names[i] + " · " + parts.join(" · ") + (data.ranks[i] === null ? "" : " · add next: " + data.ranks[i]) + (data.views[i] < 0 ? "" : OPENS);
    var box = svg.getBoundingClientRect(), at = dots[i].getBoundingClientRect();
    card.style.left = Math.min(at.left - box.left + 12, Math.max(0, box.width - 240)) + "px";
    card.style.top = at.top - box.top + 12 + "px";
  }
  // The dot nearest to the pointer: small dots are hard to hit with a finger.
  function near(event) {
    var box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal, scale = view.width / box.width, best = -1, distance = 18 * scale;
    var x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    dots.forEach(function (dot, i) {
      var d = Math.hypot(dot.cx.baseVal.value - x, dot.cy.baseVal.value - y);
      if (d < distance) { distance = d; best = i; }
    });
    return best;
  }
  function open(i) {
    if (i >= 0 && data.views[i] >= 0) { document.dispatchEvent(new CustomEvent("shiftscope:view", { detail: { view: data.views[i], words: words.textContent.replace(OPENS, ""), from: svg } })); }
  }
  // A finger has nothing to point with: its first tap shows the dot, the second opens the image.
  var pressed = -1;
  svg.addEventListener("pointermove", function (event) { show(near(event)); });
  svg.addEventListener("pointerdown", function (event) { var i = near(event); pressed = event.pointerType === "mouse" || i === current ? i : -1; show(i); });
  svg.addEventListener("click", function () { open(pressed); });
  svg.addEventListener("pointerleave", function (event) { if (event.pointerType === "mouse") { show(-1); } });
  svg.setAttribute("tabindex", "0");
  // From left to right, whatever the order of the images.
  var order = dots.map(function (_, i) { return i; }).sort(function (a, b) { return dots[a].cx.baseVal.value - dots[b].cx.baseVal.value; });
  svg.addEventListener("keydown", function (event) {
    var step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") { show(-1); }
    if (event.key === "Enter") { open(current); }
    if (!step) { return; }
    show(order[(order.indexOf(current) + step + order.length) % order.length]);
    event.preventDefault();
  });
  svg.addEventListener("blur", function () { show(-1); });
  chooser.hidden = select.options.length < 2;
  select.addEventListener("change", colour);
  document.getElementById("map-help").hidden = false;
}());
