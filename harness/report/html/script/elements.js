// Elements of the page. Text goes in as text nodes only: a name from elsewhere is never read as markup.
const SVG = "http://www.w3.org/2000/svg";

function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

function icon(tone) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  for (const [name, value] of Object.entries({ class: "icon", width: 16, height: 16, "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
  use.setAttribute("href", `#icon-${tone}`);
  svg.append(use);
  return svg;
}

function verdict(tone, word) {
  return h("span", { class: `verdict ${tone}` }, icon(tone), word);
}

// A table of plain cells; the first of each row names it. `figures` are the columns that hold numbers.
function table(head, rows, { name = "", figures = [] } = {}) {
  const kind = (index) => (figures.includes(index) ? "figure" : null);
  return h("table", { class: name },
    h("thead", {}, h("tr", {}, head.map((cell, index) => (cell ? h("th", { scope: "col", class: kind(index) }, cell) : h("td", {}))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, index) =>
      index ? h("td", { class: kind(index) }, cell) : h("th", { scope: "row" }, cell))))));
}

// A table wider than its column scrolls by itself, with the keyboard too; an edge in shade shows that it does.
const edges = new ResizeObserver((seen) => seen.forEach(({ target }) => shade(target.closest(".wide"))));

function wide(label, content) {
  // A group, no region: a page may have many tables of one name, and regions are landmarks.
  const node = h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": label }, content);
  node.addEventListener("scroll", () => shade(node), { passive: true });
  [node, ...node.children].forEach((one) => edges.observe(one));
  return node;
}

function shade(node) {
  if (!node) return;
  const left = node.scrollWidth - node.clientWidth - node.scrollLeft;
  node.classList.toggle("more-right", left > 2);
  node.classList.toggle("more-left", node.scrollLeft > 2);
}

function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function command(text) {
  return h("div", { class: "command" }, h("code", {}, text), copyButton());
}

function copyButton() {
  return prepared(h("button", { type: "button", class: "copy" }, "Copy"));
}

function prepared(button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // no clipboard for this page: the command is at least marked
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return button;
}

// A long series of things, a page at a time: `make` returns the element of one of them, `show` begins with others.
function pager(make, size) {
  const list = h("div", {});
  const more = h("button", { type: "button", class: "more", onclick: () => grow() });
  let all = [];
  const grow = () => {
    const shown = list.childElementCount;
    list.append(...all.slice(shown, shown + size).map(make));
    const left = all.length - list.childElementCount;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(size, left)} more`;
  };
  const show = (things) => {
    all = things;
    list.replaceChildren();
    grow();
  };
  return { list, more, grow, show };
}

function paged(things, make, size) {
  const { list, more, show } = pager(make, size);
  show(things);
  return h("div", {}, list, more);
}

function onResize(node, act, width = node.clientWidth) {
  new ResizeObserver(() => {
    if (node.clientWidth && Math.abs(node.clientWidth - width) > 20) {
      width = node.clientWidth;
      act();
    }
  }).observe(node);
}

// Does what is far down a page only when a reader comes near.
function whenNear(node, act) {
  const watcher = new IntersectionObserver((seen) => {
    if (seen.some((one) => one.isIntersecting)) {
      watcher.disconnect();
      act();
    }
  }, { rootMargin: "800px" });
  watcher.observe(node);
}
