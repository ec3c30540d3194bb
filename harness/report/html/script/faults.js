// Injected faults by strategies: caught or missed, and where each showed first.
const OUTCOMES = {
  missed: ["different", "✕", "missed"], inconclusive: ["inconclusive", "?", "inconclusive"], caught: ["equivalent", "✓", "came out different"],
  failed: ["equivalent", "†", "ended with an error"], "not tried": ["not-verified", "–", "not tried"],
};

function faultsSection({ columns, rows, counts }, place) {
  const cell = (found) => {
    if (!found) return h("td", { class: "empty" }, h("span", { class: "unasked" }, "-"));
    const [tone, glyph, word] = OUTCOMES[found.outcome];
    const cause = found.cause ? `; named ${found.cause}${found.named === "wrong" ? ", wrongly" : ""}` : "";
    const told = `${word}: ${found.seen}${cause}`;
    return h("td", {}, h("a", { class: `cell ${tone}`, href: `#case-${found.line}`, title: told, "aria-label": told }, glyph, found.named === "wrong" ? "*" : ""));
  };
  const head = ["Fault", ...columns.map((column) => column.label)];
  place.append(
    wide("Injected faults", h("table", { class: "matrix dense" },
      h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, h("span", {}, name))))),
      h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.fault, h("small", {}, row.what)), row.cells.map(cell)))))),
    h("dl", { class: "legend" }, Object.entries(counts).map(([outcome, count]) => {
      const [tone, glyph, word] = OUTCOMES[outcome];
      return h("div", { class: tone }, h("dt", {}, `${glyph} ${word}`), h("dd", {}, number(count, 6)));
    }), rows.some((row) => row.cells.some((found) => found && found.named === "wrong")) ? h("div", {}, h("dt", {}, "*"), h("dd", {}, "caught, and its cause named wrongly")) : null));
}
