// Strategies by workloads: every cell a verdict, and a way to its case.
const MATRIX_DENSE = 8;
const GLYPHS = { equivalent: "✓", different: "✕", inconclusive: "?", "not-verified": "–" };

function matrix({ lines, columns, matrix: rows }, place) {
  if (!rows.length) {
    place.append(h("p", { class: "remark" }, "No case was judged."));
    return;
  }
  const dense = columns.length > MATRIX_DENSE;
  const cell = (at, column) => {
    if (at === null) return h("td", { class: "empty" }, h("span", { class: "unasked", title: "not part of this run" }, "-"));
    const line = lines[at];
    const call = finite(line.margin) ? number(line.margin, 2) : "";
    const link = { class: `cell ${line.tone}`, href: `#case-${at}`, title: line.told };
    // A glyph is the least that tells verdicts apart without colour: a dense table may have thousands of cells.
    if (dense) return h("td", {}, h("a", { ...link, "aria-label": `${line.verdict} ${call}` }, GLYPHS[line.tone]));
    return h("td", {}, h("a", { ...link, "data-label": column }, icon(line.tone), h("span", { class: "word" }, line.verdict), h("small", {}, call)));
  };
  const body = rows.map(([strategy, told, numbers]) => h("tr", {},
    h("th", { scope: "row" }, strategy, h("small", {}, told)), numbers.map((at, index) => cell(at, columns[index]))));
  place.append(wide("Verdicts", h("table", { class: `matrix${dense ? " dense" : ""}` },
    h("thead", {}, h("tr", {}, ["Strategy", ...columns].map((name) => h("th", { scope: "col" }, h("span", {}, name))))),
    h("tbody", {}, body))));
}
