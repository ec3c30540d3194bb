// Injected faults by strategies: caught or missed, and where each showed first.
const OUTCOMES = {
  missed: ["different", "✕"], inconclusive: ["inconclusive", "?"], caught: ["equivalent", "✓"],
  failed: ["equivalent", "†"], "not tried": ["not-verified", "–"],
};

function faultsSection({ columns, rows, counts }, lines, place) {
  const numbers = new Map(lines.map((line, at) => [`${line.case} ${line.fault}`, at]));
  const cell = (found, fault) => {
    if (!found) return h("td", { class: "empty" }, h("span", { class: "unasked" }, "-"));
    const [tone, glyph] = OUTCOMES[found.outcome];
    const cause = found.cause ? `; named ${found.cause}${found.named === "wrong" ? ", wrongly" : ""}` : "";
    const told = `${found.outcome}: ${found.seen}${cause}`;
    return h("td", {}, h("a", { class: `cell ${tone}`, href: `#case-${numbers.get(`${found.cases[0]} ${fault}`)}`, title: told, "aria-label": told }, glyph, found.named === "wrong" ? "*" : ""));
  };
  const head = ["Fault", ...columns.map((column) => column.label)];
  place.append(
    wide("Injected faults", h("table", { class: "matrix dense" },
      h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, h("span", {}, name))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.fault, h("small", {}, row.what)), row.cells.map((found) => cell(found, row.fault))))))),
    h("dl", { class: "legend" }, Object.entries(counts).map(([outcome, count]) => {
      const [tone, glyph] = OUTCOMES[outcome];
      return h("div", { class: tone }, h("dt", {}, `${glyph} ${outcome}`), h("dd", {}, `${count}`));
    }), rows.some((row) => row.cells.some((found) => found && found.named === "wrong")) ? h("div", {}, h("dt", {}, "*"), h("dd", {}, "caught, and its cause named wrongly")) : null));
}
