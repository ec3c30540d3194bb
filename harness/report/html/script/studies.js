// Published figures beside ours, and what libraries are known to do unlike serial training.
const HOLDS_TONE = { yes: "equivalent", no: "different", inconclusive: "inconclusive", "not tested": "not-verified" };

function studiesSection(studies, place) {
  const width = place.clientWidth || WIDTH;
  place.append(...studies.map((study) => h("article", { class: "study" }, h("h3", {}, study.name), h("p", { class: "lead" }, study.sentence),
    study.kinds.map(([kind, told]) => h("p", { class: "remark" }, `${kind}: ${told}.`)),
    studyChart(study, width),
    claims(study))));
}

const CLAIMS_SHOWN = 15;
// What stands beside the published figures.
const FOUND = { measured: "Here", predicted: "Predicted", recomputed: "Recomputed" };

function foundName({ kinds }) {
  return kinds.length === 1 ? FOUND[kinds[0][0]] : "Found";
}

function claims(study) {
  const { name, lines } = study;
  const rows = lines.map((line) => [
    h("span", {}, line.text, line.contradicts ? h("small", {}, `contradicts ${line.contradicts}`) : null),
    line.published, line.here || line.reason, line.ratio, verdict(HOLDS_TONE[line.holds], line.told),
    h("small", { title: line.where }, `${line.source}: ${line.where}`)]);
  const shown = table(["Claim", "Published", foundName(study), `${foundName(study)} over published`, "", "Where"], rows.slice(0, CLAIMS_SHOWN), { name: "plain claims", figures: [1, 2, 3] });
  const rest = rows.slice(CLAIMS_SHOWN);
  const more = h("button", { type: "button", class: "more", onclick: () => {
    shown.tBodies[0].append(...table([], rest, { figures: [1, 2, 3] }).tBodies[0].rows);
    more.remove();
  } }, `Show ${rest.length} more`);
  return [wide(name, shown), rest.length ? more : null];
}

function studyChart(study, width) {
  const rows = study.lines.filter((line) => [line.value, line.low, line.found, line.high].every((value) => finite(value) && value > 0))
    .map((line) => ({ ...line, at: line.found / line.value, from: line.low / line.value, to: line.high / line.value }));
  return rows.length < 2 ? null : drawnInPart(width, rows, (shown, wide) => overPublished(study, shown, wide));
}

function overPublished(study, rows, width) {
  const word = foundName(study).toLowerCase();
  const margin = Math.min(330, 0.45 * width);
  const told = new Map(rows.map((row) => [row.id, shortened(row.text, Math.floor(margin / 6.6))]));
  const colour = (row) => `var(--${HOLDS_TONE[row.holds]})`;
  return draw(`${study.name}: ${word} over published`, {
    width, height: 60 + 20 * rows.length, marginLeft: margin, marginRight: 30, marginBottom: 40,
    x: { type: "log", label: `${word} over published`, labelAnchor: "center", tickFormat: (v) => `${v}x`, ticks: width < 560 ? 3 : 6 },
    y: { domain: rows.map((row) => row.id), label: null, padding: 0.3, tickFormat: (id) => told.get(id) },
    marks: [
      gridX({ ticks: width < 560 ? 3 : 6 }), Plot.ruleX([1], { stroke: MUTED }),
      Plot.ruleY(rows, { y: "id", x1: "from", x2: "to", stroke: colour, strokeWidth: 2 }),
      Plot.dot(rows, { y: "id", x: "at", fill: colour, r: 4, tip: true, title: (row) => `${row.text}\npublished ${row.published}\n${word} ${row.here}` }),
    ],
  });
}

const STATE_TONE = { "did not show": "inconclusive", "showed in part": "inconclusive", showed: "different", "not seen": "not-verified" };

function findingsSection(findings, place) {
  place.append(...findings.map((one) => h("details", { class: "finding" },
    h("summary", {}, verdict(STATE_TONE[one.state], one.state), " ", one.told),
    one.elsewhere.length ? h("p", { class: "remark" }, `It is said to show first in ${one.rung}; here it did in ${one.elsewhere.join(", ")}.`) : null,
    h("ul", { class: "remarks" }, one.cases.map((seen) => h("li", {}, h("a", { href: `#case-${seen.line}` }, seen.case), ` ${seen.verdict}`, seen.first ? `, first in ${seen.first}` : ""))))));
}
