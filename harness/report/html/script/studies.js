// Published figures beside ours, and what libraries are known to do unlike serial training.
const HOLDS_TONE = { yes: "equivalent", no: "different", inconclusive: "inconclusive", "not tested": "not-verified" };

function studiesSection(studies, place) {
  place.append(...studies.map((study) => h("article", { class: "study" }, h("h3", {}, study.name), h("p", { class: "lead" }, study.sentence),
    study.kinds.map(([kind, told]) => h("p", { class: "remark" }, `${kind}: ${told}.`)),
    studyChart(study),
    claims(study))));
}

const CLAIMS_SHOWN = 15;

function claims({ name, lines }) {
  const rows = lines.map((line) => [
    h("span", {}, line.text, line.contradicts ? h("small", {}, `contradicts ${line.contradicts}`) : null),
    line.published, line.here || line.reason, line.ratio, verdict(HOLDS_TONE[line.holds], line.told),
    h("small", { title: line.where }, `${line.source}: ${line.where}`)]);
  const shown = table(["Claim", "Published", "Here", "Here over published", "", "Where"], rows.slice(0, CLAIMS_SHOWN), { name: "plain claims", figures: [1, 2, 3] });
  const rest = rows.slice(CLAIMS_SHOWN);
  const more = h("button", { type: "button", class: "more", onclick: () => {
    shown.tBodies[0].append(...table([], rest, { figures: [1, 2, 3] }).tBodies[0].rows);
    more.remove();
  } }, `Show ${rest.length} more`);
  return [wide(name, shown), rest.length ? more : null];
}

function studyChart({ name, lines }) {
  const rows = lines.filter((line) => [line.value, line.low, line.found, line.high].every((value) => finite(value) && value > 0))
    .map((line) => ({ ...line, at: line.found / line.value, from: line.low / line.value, to: line.high / line.value })).slice(0, 40);
  if (rows.length < 2) return null;
  const label = (row) => row.id;
  const told = new Map(rows.map((row) => [row.id, row.text.length > 52 ? `${row.text.slice(0, 51)}…` : row.text]));
  return h("div", { class: "wide" }, draw(`${name}: found here over published`, {
    width: 1040, height: 60 + 20 * rows.length, marginLeft: 330, marginRight: 30, marginBottom: 40,
    x: { type: "log", label: "found here over published", labelAnchor: "center", tickFormat: (v) => `${v}x`, ticks: 6 },
    y: { domain: rows.map(label), label: null, padding: 0.3, tickFormat: (id) => told.get(id) },
    marks: [
      gridX({ ticks: 6 }), Plot.ruleX([1], { stroke: MUTED }),
      Plot.ruleY(rows, { y: label, x1: "from", x2: "to", stroke: (row) => `var(--${HOLDS_TONE[row.holds]})`, strokeWidth: 2 }),
      Plot.dot(rows, { y: label, x: "at", fill: (row) => `var(--${HOLDS_TONE[row.holds]})`, r: 4, tip: true, title: (row) => `${row.text}\npublished ${row.published}\nhere ${row.here}` }),
    ],
  }));
}

const STATE_TONE = { "did not show": "inconclusive", "showed in part": "inconclusive", showed: "different", "not seen": "not-verified" };

function findingsSection(findings, lines, place) {
  const numbers = new Map(lines.map((line, at) => [line.case, at]));
  place.append(...findings.map((one) => h("details", { class: "finding" },
    h("summary", {}, verdict(STATE_TONE[one.state], one.state), " ", one.told),
    one.elsewhere.length ? h("p", { class: "remark" }, `It is said to show first in ${one.rung}; here it did in ${one.elsewhere.join(", ")}.`) : null,
    h("ul", { class: "remarks" }, one.cases.map((seen) => h("li", {}, h("a", { href: `#case-${numbers.get(seen.case)}` }, seen.case), ` ${seen.verdict}`, seen.first ? `, first in ${seen.first}` : ""))))));
}
