// The gallery: filters, paging, links from the tables, and the whole image with boxes that can be switched on and off.
(function () {
  "use strict";
  var form = document.getElementById("gallery-filters");
  if (!form) { return; }
  var PAGE = 48, limit = PAGE, least = null, visible = [];
  var more = document.getElementById("gallery-more"), none = document.getElementById("gallery-none"), count = document.getElementById("gallery-count");
  var range = form.querySelector("input.threshold"), rangeValue = form.querySelector(".threshold-value");
  var cards = Array.from(document.querySelectorAll(".card")).map(function (card) {
    var of = card.dataset;
    return {
      node: card, domain: of.of, kind: of.kind, recording: of.recording,
      "class": of.classes.split(" "), slice: of.slices.split(" "),
      confidence: of.confidence === "" ? null : Number(of.confidence), view: Number(of.view)
    };
  });
  var groups = Array.from(document.querySelectorAll(".group, .batch"));

  function value(name) { return form.elements[name] ? form.elements[name].value : ""; }
  function fits(card, wanted) {
    return Object.keys(wanted).every(function (name) {
      var has = card[name], want = wanted[name];
      return want === "" || (Array.isArray(has) ? has.indexOf(want) >= 0 : has === want);
    }) && (least === null || card.confidence === null || card.confidence >= least);
  }
  function apply() {
    var wanted = {};
    ["domain", "kind", "class", "slice", "recording"].forEach(function (name) { wanted[name] = value(name); });
    visible = [];
    cards.forEach(function (card) {
      var shown = fits(card, wanted);
      if (shown) { visible.push(card); }
      card.node.classList.toggle("out", !shown);
      card.node.classList.toggle("later", shown && visible.length > limit);
    });
    groups.forEach(function (group) {
      var fitting = group.querySelector(".card:not(.out)");
      group.classList.toggle("out", !fitting);
      group.classList.toggle("later", fitting !== null && !group.querySelector(".card:not(.out):not(.later)"));
    });
    var left = visible.length - limit;
    more.hidden = left <= 0;
    more.textContent = "Show " + Math.min(left, PAGE) + " more of " + visible.length;
    none.hidden = visible.length > 0;
    count.textContent = visible.length + " of " + cards.length + " cards";
  }
  function changed() { limit = PAGE; apply(); }
  form.hidden = false;
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  form.querySelectorAll("select").forEach(function (select) { select.addEventListener("change", changed); });
  form.addEventListener("reset", function () {
    least = null;
    document.dispatchEvent(new CustomEvent("shiftscope:reset"));
    setTimeout(function () { rangeValue.textContent = "any"; changed(); });
  });
  more.addEventListener("click", function () { limit += PAGE; apply(); });
  document.addEventListener("shiftscope:threshold", function (event) { least = event.detail; changed(); });
  document.addEventListener("shiftscope:domain", function (event) {
    if (form.elements.domain) { form.elements.domain.value = event.detail; changed(); }
  });
  document.querySelectorAll(".opens[data-opens]").forEach(function (button) {
    button.addEventListener("click", function () {
      var of = button.dataset;
      ["domain", "kind", "class", "slice", "recording"].forEach(function (name) { if (form.elements[name]) { form.elements[name].value = ""; } });
      if (form.elements.domain) { form.elements.domain.value = of.opensDomain; }
      if (of.opens !== "domain" && form.elements[of.opens]) { form.elements[of.opens].value = of.opensValue; }
      changed();
      document.getElementById("gallery").scrollIntoView();
      var first = visible.length && visible[0].node.querySelector("button");
      if (first) { first.focus({ preventScroll: true }); }
    });
  });
  apply();

  // The whole image.
  var dialog = document.getElementById("full-view"), holder = document.getElementById("full-image");
  var views = null, current = -1, opener = null, alone = null, NS = "http://www.w3.org/2000/svg";
  var switches = { annotation: document.getElementById("show-annotations"), detection: document.getElementById("show-detections") };

  // Names are written at detections that somebody would look at; the others have theirs under the pointer.
  var NAMED = 0.1;
  function draw(view, card) {
    var size = view.width / 42;
    holder.textContent = "";
    var image = document.createElement("img"), svg = document.createElementNS(NS, "svg");
    image.src = view.src;
    image.alt = view.name;
    svg.setAttribute("viewBox", "0 0 " + view.width + " " + view.height);
    svg.setAttribute("class", "boxes");
    view.boxes.forEach(function (box) {
      var labelled = box[3] === null;
      var on = labelled ? switches.annotation.checked : switches.detection.checked && (least === null || box[3] >= least);
      if (!on) { return; }
      var outline = document.createElementNS(NS, "path"), title = document.createElementNS(NS, "title");
      outline.setAttribute("d", box[1]);
      outline.setAttribute("class", "box " + box[0]);
      title.textContent = (labelled ? (box[0] === "missed" ? "missed: " : "annotation: ") : "") + box[2];
      outline.appendChild(title);
      svg.appendChild(outline);
      if (card && !labelled && box[0] === card.kind && Math.abs(box[3] - card.confidence) < 1e-4) { outline.classList.add("own"); }
      if (!labelled && box[3] >= NAMED) {
        var text = document.createElementNS(NS, "text"), corner = box[1].match(/-?[\d.]+/g);
        text.setAttribute("x", corner[0]);
        text.setAttribute("y", Math.max(size, Number(corner[1]) - 0.25 * size));
        text.setAttribute("font-size", size);
        text.setAttribute("class", "name " + box[0]);
        text.textContent = box[2];
        svg.appendChild(text);
      }
    });
    holder.style.setProperty("--ratio", view.width / view.height);
    holder.append(image, svg);
  }
  var steps = [document.getElementById("full-before"), document.getElementById("full-after")];
  function load(number) {
    // Megabytes, which nobody waits for who opens no image.
    views = views || JSON.parse(document.getElementById("views-data").textContent);
    return views[number];
  }
  // One image from elsewhere on the page, which has no neighbours.
  function openAlone(of) {
    var view = load(of.view);
    current = -1;
    alone = of;
    steps.forEach(function (button) { button.hidden = true; });
    document.getElementById("full-name").textContent = view.name;
    document.getElementById("full-words").textContent = of.words;
    draw(view, null);
    if (!dialog.open) { opener = of.from; dialog.showModal(); }
  }
  function open(index) {
    if (!visible.length) { return; }
    current = (index + visible.length) % visible.length;
    alone = null;
    steps.forEach(function (button) { button.hidden = false; });
    var card = visible[current], crop = card.node.querySelector(".shot img");
    var name = card.node.querySelector("img") ? card.node.querySelector("img").alt : "";
    document.getElementById("full-name").textContent = name;
    document.getElementById("full-words").textContent = (current + 1) + " of " + visible.length + ". " + card.node.querySelector(".facts").innerText.replace(/\s*\n\s*/g, " · ");
    if (card.view >= 0) { draw(load(card.view), card); } else {
      // Its whole image did not fit into the page: the crop, enlarged.
      holder.textContent = "";
      if (crop) { holder.style.setProperty("--ratio", 1); holder.append(crop.cloneNode(), card.node.querySelector(".boxes").cloneNode(true)); }
    }
    if (!dialog.open) { dialog.showModal(); }
  }
  function redraw() { if (dialog.open) { if (alone) { openAlone(alone); } else { open(current); } } }
  document.addEventListener("shiftscope:view", function (event) { openAlone(event.detail); });
  document.querySelectorAll("button.pick").forEach(function (button) {
    button.addEventListener("click", function () {
      openAlone({ view: Number(button.dataset.view), words: button.closest("li").innerText.replace(/\s*\n\s*/g, " · "), from: button });
    });
  });
  cards.forEach(function (card) {
    var button = card.node.querySelector(".shot");
    if (button) { button.addEventListener("click", function () { open(visible.indexOf(card)); }); }
  });
  switches.annotation.addEventListener("change", redraw);
  switches.detection.addEventListener("change", redraw);
  steps[0].addEventListener("click", function () { open(current - 1); });
  steps[1].addEventListener("click", function () { open(current + 1); });
  document.getElementById("full-close").addEventListener("click", function () { dialog.close(); });
  dialog.addEventListener("click", function (event) { if (event.target === dialog) { dialog.close(); } });
  dialog.addEventListener("keydown", function (event) {
    var toggled = { a: switches.annotation, d: switches.detection }[event.key.toLowerCase()];
    if (event.key === "ArrowRight" && !alone) { open(current + 1); } else if (event.key === "ArrowLeft" && !alone) { open(current - 1); } else if (toggled) { toggled.checked = !toggled.checked; redraw(); } else { return; }
    event.preventDefault();
  });
  dialog.addEventListener("close", function () {
    var button = alone ? opener : current >= 0 && visible[current] && visible[current].node.querySelector(".shot");
    if (button) { button.focus(); }
  });
}());
