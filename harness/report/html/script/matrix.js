// Strategies by workloads: every cell a verdict, and a way to its case.
const MATRIX_DENSE = 8;
const GLYPHS = { equivalent: "✓", different: "✕", inconclusive: "?", "not-verified": "–" };
// Behind the verdict of a case that is not held against plain serial training.
const MANNER = "*";

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
    const mark = line.manner ? MANNER : "";
    const link = { class: `cell ${line.tone}`, href: `#case-${at}`, title: line.manner ? `${line.verdict} ${line.manner}: ${line.told}` : line.told };
    // A glyph is the least that tells verdicts apart without colour: a dense table may have thousands of cells.
    if (dense) return h("td", {}, h("a", { ...link, "aria-label": [line.verdict, line.manner, call].filter(Boolean).join(" ") }, `${GLYPHS[line.tone]}${mark}`));
    return h("td", {}, h("a", { ...link, "data-label": column }, icon(line.tone), h("span", { class: "word" }, `${line.verdict}${mark}`), h("small", {}, call)));
  };
  const body = rows.map(([strategy, told, numbers]) => h("tr", {},
    h("th", { scope: "row", title: strategy }, strategy, h("small", {}, told)), numbers.map((at, index) => cell(at, columns[index]))));
  place.append(wide("Verdicts", h("table", { class: `matrix${dense ? " dense" : ""}` },
    h("thead", {}, h("tr", {}, ["Strategy", ...columns].map((name) => h("th", { scope: "col", title: name }, h("span", {}, name))))),
    h("tbody", {}, body))));
  if (!rows.some(([, , numbers]) => numbers.some((at) => at !== null && lines[at].manner))) return;
  place.parentElement.querySelector(".legend").append(h("div", {}, h("dt", {}, MANNER),
    h("dd", {}, "not to plain serial training: to a named reference of its own, or statistically; each case says to what")));
}
