// Reading aids: the contents follow the reader, commands can be copied, and a print shows what is folded.
(function () {
  "use strict";
  var links = {}, shown = new Set();
  document.querySelectorAll("nav a[href^='#']").forEach(function (link) { links[link.hash.slice(1)] = link; });
  var headings = Array.from(document.querySelectorAll("h2[id]")), bar = document.querySelector("nav");
  // The contents stay on top, in one line or two: a heading that they lead to is not below them.
  function clear() { if (bar) { document.documentElement.style.setProperty("--bar", bar.offsetHeight + "px"); } }
  window.addEventListener("resize", clear);
  clear();
  function follow() {
    var at = 0;
    headings.forEach(function (heading, i) { if (heading.getBoundingClientRect().top < 120) { at = i; } });
    if (window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 2) { at = headings.length - 1; }
    headings.forEach(function (heading, i) {
      var link = links[heading.id];
      if (!link) { return; }
      if (i === at && window.scrollY > 200) {
        if (link.getAttribute("aria-current")) { return; }
        link.setAttribute("aria-current", "true");
        link.parentNode.scrollLeft = link.offsetLeft - 40;
      } else { link.removeAttribute("aria-current"); }
    });
  }
  var waiting = false;
  window.addEventListener("scroll", function () {
    if (waiting) { return; }
    waiting = true;
    requestAnimationFrame(function () { waiting = false; follow(); });
  }, { passive: true });
  follow();

  document.querySelectorAll("code.command").forEach(function (code) {
    var button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "copy";
    button.setAttribute("aria-label", "Copy: " + code.textContent);
    button.addEventListener("click", function () {
      var done = function () { button.textContent = "copied"; setTimeout(function () { button.textContent = "copy"; }, 1500); };
      var select = function () {
        // Pages from a file may not write to the clipboard: the command is selected instead.
        getSelection().selectAllChildren(code);
        button.textContent = document.execCommand("copy") ? "copied" : "selected";
      };
      if (navigator.clipboard) { navigator.clipboard.writeText(code.textContent).then(done, select); } else { select(); }
    });
    code.after(button);
  });

  // On narrow screens figures are wider than the page: what can be pushed can also be reached with the keyboard.
  function reach() {
    document.querySelectorAll("figure").forEach(function (figure) {
      if (figure.scrollWidth > figure.clientWidth) { figure.setAttribute("tabindex", "0"); } else { figure.removeAttribute("tabindex"); }
    });
  }
  window.addEventListener("resize", reach);
  document.querySelectorAll("details").forEach(function (details) { details.addEventListener("toggle", reach); });
  reach();

  // What was folded before is folded again after printing.
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not([open])").forEach(function (details) { shown.add(details); details.open = true; });
  });
  window.addEventListener("afterprint", function () { shown.forEach(function (details) { details.open = false; }); shown.clear(); });
}());
