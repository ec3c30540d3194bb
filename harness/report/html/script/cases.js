// The list of cases: filtered, sorted and made a page at a time; a case is filled in when it is opened.
const PAGE = 100;
const SORTS = {
  gravity: ["gravest first", (a, b) => a.number - b.number],
  name: ["by name", (a, b) => a.case.localeCompare(b.case)],
  margin: ["closest call first", (a, b) => (b.margin ?? -1) - (a.margin ?? -1)],
  speedup: ["fastest first", (a, b) => (b.speedup ?? -1) - (a.speedup ?? -1)],
};

class Cases {
  constructor(index, place) {
    this.index = index;
    this.lines = index.lines.map((line, number) => ({ ...line, number, text: [line.case, line.verdict, line.manner, line.told, line.fault].filter(Boolean).join(" ").toLowerCase() }));
    // Injected faults, each of which must differ, stand apart: they would bury what differs and should not.
    this.kinds = [["cases", "cases", (line) => !line.fault], ["faults", "injected faults", (line) => line.fault], ["both", "both", () => true]];
    this.mixed = this.kinds.slice(0, 2).every(([, , of]) => this.lines.some(of));
    this.filter = { text: "", verdict: "", framework: "", ranks: "", kind: this.mixed ? "cases" : "both", sort: "gravity" };
    this.count = h("p", { class: "count", role: "status" });
    Object.assign(this, pager((line) => this.item(line), PAGE));
    this.controls = {};
    // Cases that were open before the page loaded itself again.
    this.kept = new Set();
    place.append(this.bar(), this.count, this.list, this.more);
    this.update();
  }

  bar() {
    const distinct = (name) => [...new Set(this.lines.map((line) => line[name]))].sort((a, b) => (a > b) - (a < b));
    const choice = (name, label, options) => {
      this.controls[name] = h("select", { onchange: (event) => this.set({ [name]: event.target.value }) },
        options.map(([value, told]) => h("option", { value, selected: value === this.filter[name] }, told)));
      return h("label", {}, h("span", {}, label), this.controls[name]);
    };
    const any = (name) => [["", "all"], ...distinct(name).map((value) => [value, value])];
    this.controls.text = h("input", { type: "search", placeholder: "strategy, workload, reason", oninput: (event) => this.set({ text: event.target.value }) });
    return h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      h("label", { class: "search" }, h("span", {}, "Find"), this.controls.text),
      choice("verdict", "Verdict", any("verdict")),
      choice("framework", "Framework", any("framework")),
      choice("ranks", "Ranks", any("ranks")),
      this.mixed ? choice("kind", "Show", this.kinds) : "",
      choice("sort", "Order", Object.entries(SORTS).map(([value, [told]]) => [value, told])));
  }

  set(changes) {
    Object.assign(this.filter, changes);
    for (const [name, value] of Object.entries(changes)) if (this.controls[name]) this.controls[name].value = value;
    this.update();
  }

  update() {
    const { text, verdict: word, framework, ranks, kind, sort } = this.filter;
    const [, , ofKind] = this.kinds.find(([name]) => name === kind);
    const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.found = this.lines.filter((line) => ofKind(line) &&
      (!word || line.verdict === word) && (!framework || line.framework === framework) &&
      (!ranks || String(line.ranks) === ranks) && wanted.every((part) => line.text.includes(part))).sort(SORTS[sort][1]);
    this.count.textContent = `${this.found.length.toLocaleString("en")} of ${this.lines.filter(ofKind).length.toLocaleString("en")} shown`;
    this.show(this.found);
  }

  item(line) {
    const node = h("details", { class: "case", id: `case-${line.number}` },
      h("summary", {}, h("span", {}, verdict(line.tone, line.verdict), line.manner ? h("small", {}, line.manner) : null),
        h("span", { class: "name" }, line.case, line.fault ? h("small", {}, `injected fault: ${line.fault}`) : null),
        h("span", { class: "aside" }, line.figure)));
    node.addEventListener("toggle", () => { if (node.open) this.fill(node, line); });
    node.open = this.kept.has(caseName(line));
    return node;
  }

  async fill(node, line) {
    if (node.childElementCount > 1) return;
    if (line.number >= this.index.detailed) {
      const told = "Its details were left out to keep this page small; results.json has them.";
      node.append(h("div", { class: "body" }, h("p", { class: "lead" }, line.told), h("p", {}, told)));
      return;
    }
    await unpack(this.piece(line));
    this.fillAtOnce(node, line);
  }

  // Where its details have been unpacked already; says whether they have.
  fillAtOnce(node, line) {
    const piece = unpacked(this.piece(line));
    if (piece && node.childElementCount === 1) node.append(h("div", { class: "body" }, caseBody(piece[line.number % this.index.chunk])));
    return Boolean(piece);
  }

  lineOf(node) {
    return this.lines[Number(node.id.slice("case-".length))];
  }

  piece(line) {
    return `cases-${Math.floor(line.number / this.index.chunk)}`;
  }

  // On paper nothing opens: what differs or is unclear is folded out, until it is printed.
  foldOut(most) {
    const grave = [...this.list.children].map((node) => [node, this.lineOf(node)])
      .filter(([node, line]) => !node.open && (line.tone === "different" || line.tone === "inconclusive"));
    return grave.slice(0, most).map(([node, line]) => { node.open = this.fillAtOnce(node, line); return node; });
  }

  // What a reader has chosen and opened, by the names of the cases: their numbers may be others in a moment.
  state() {
    const open = [...this.list.querySelectorAll(":scope > details[open]")].map((node) => caseName(this.lineOf(node)));
    return { filter: this.filter, open, listed: this.list.childElementCount };
  }

  async restore({ filter, open, listed }) {
    this.kept = new Set(open);
    this.set(filter);
    while (this.list.childElementCount < listed && !this.more.hidden) this.grow();
    this.kept = new Set();
    await Promise.all([...this.list.querySelectorAll(":scope > details[open]")].map((node) => this.fill(node, this.lineOf(node))));
  }

  // Opens a case wherever it is in the list; what hides it is taken away.
  reveal(number) {
    if (!this.lines[number]) return;
    if (!this.found.some((line) => line.number === number)) this.set({ text: "", verdict: "", framework: "", ranks: "", kind: "both" });
    while (!document.getElementById(`case-${number}`) && !this.more.hidden) this.grow();
    const node = document.getElementById(`case-${number}`);
    if (!node) return;
    node.open = true;
    node.querySelector("summary").focus({ preventScroll: true });
    // At once: while it scrolled, what is drawn above would move it away.
    node.scrollIntoView({ behavior: "instant" });
  }
}

// An injected fault shares the name of its case.
function caseName(line) {
  return `${line.case} ${line.fault || ""}`;
}

function caseBody(detail) {
  const rows = (entries, name) => (entries.length ? h("ul", { class: name }, entries.map((told) => h("li", {}, told))) : null);
  return [
    h("p", { class: "lead" }, detail.lead),
    detail.evidence ? h("pre", { tabindex: 0 }, detail.evidence) : null,
    detail.found ? h("p", { class: "found" }, detail.found) : null,
    rows(detail.diagnosis, "diagnosis"),
    detail.struck ? h("p", {}, "Time per epoch ", h("s", {}, detail.struck[0]), `, ${detail.struck[1]}.`) : null,
    detail.command ? h("h3", {}, "Repeat this case") : null,
    detail.command ? command(detail.command) : null,
    rows(detail.remarks, "remarks"),
    detail.ladder.length ? ladder(detail) : null,
    detail.figures.length ? h("div", { class: "figures" }, detail.figures.map(caseFigure)) : null,
    detail.accuracy ? h("p", {}, detail.accuracy) : null,
    ...outputs(detail.logs),
    facts(detail.settings),
    detail.environment.length ? h("h3", {}, "Environment, where it is not as in the rest of the run") : null,
    detail.environment.length ? facts(detail.environment) : null,
  ].filter(Boolean);
}

// What every rank printed; what is empty is said in a line.
function outputs(logs) {
  if (!logs.length) return [];
  const silent = logs.filter((log) => !log.text && !log.stack);
  return [
    h("h3", {}, "Output of the ranks"),
    ...logs.filter((log) => log.text || log.stack).map((log) => h("details", { class: "output" },
      h("summary", {}, `${log.who}: ${log.told}`),
      log.text ? h("pre", { tabindex: 0 }, log.text) : null,
      log.stack ? h("pre", { tabindex: 0, class: "stack" }, log.stack) : null)),
    silent.length ? h("p", { class: "remark" }, `Printed nothing: ${silent.map((log) => log.who).join(", ")}.`) : null,
  ];
}

// Every rung of the ladder: its closest call on a logarithmic scale, with a mark at what is allowed.
function ladder({ ladder: rungs, allowed }) {
  const highest = d3.max(rungs, (rung) => (finite(rung.ratio) ? rung.ratio : 1)) || 1;
  const scale = d3.scaleLog([0.01, Math.max(1e3, allowed * 10, highest * 3)], [0, 100]).clamp(true);
  const bar = (ratio) => {
    const width = finite(ratio) ? scale(Math.max(ratio, 0.01)) : 100;
    return h("span", { class: `meter ${finite(ratio) && ratio <= allowed ? "within" : "over"}`, "aria-hidden": "true" },
      h("i", { style: `width:${width.toFixed(1)}%` }), finite(allowed) ? h("b", { style: `left:${scale(allowed).toFixed(1)}%` }) : null);
  };
  const head = [["Rung", 1], [finite(allowed) ? `Closest call, of ${number(allowed)} allowed` : "Closest call", 2], ["Where", 1]];
  return h("table", { class: "ladder" },
    h("thead", {}, h("tr", {}, head.map(([cell, colspan]) => h("th", { scope: "col", colspan }, cell)))),
    h("tbody", {}, rungs.map((rung) => h("tr", {}, h("th", { scope: "row" }, rung.rung),
      ...(rung.not_shown
        ? [h("td", { colspan: 3, class: "not-shown" }, `not shown: ${rung.not_shown}`)]
        : [h("td", { class: "figure" }, rung.figure), h("td", { class: "bar" }, bar(rung.ratio)), h("td", { class: "where" }, rung.where)])))));
}
