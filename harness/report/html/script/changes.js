// Runs side by side: where they ran, which verdicts changed, and whose time moved.
const CHANGES_SHOWN = 100;
const OUTCOME_TONE = { slower: "different", faster: "equivalent", inconclusive: "inconclusive", pass: "equivalent" };

// Of a run's page: what changed since earlier runs, which the reader chooses among.
function changesSection(comparisons, place) {
  const body = h("div", {});
  const show = (at) => body.replaceChildren(h("p", { class: "lead" }, comparisons[at].headline), comparison(comparisons[at], place.clientWidth || WIDTH));
  const group = h("fieldset", { class: "since" }, h("legend", {}, "Against"), comparisons.map((one, at) => h("label", {},
    h("input", { type: "radio", name: "since", value: at, checked: at === 0, onchange: () => show(at) }), one.label)));
  place.append(group, body);
  show(0);
}

function comparison(found, width, heading = "h3") {
  const letters = found.sides.map((side) => side.letter);
  const part = (title, content) => h("section", { class: "part" }, h(heading, {}, title), content);
  const none = (told) => h("p", { class: "remark" }, told);
  const parts = [
    wide("Sides", table(["", "Run", "Begun", "Commit", "Machine", "Cases"],
      found.sides.map((side) => [side.letter, side.label, side.started.replace("T", " ").replace("Z", " UTC"), side.commit, side.machine, `${side.num_cases}`]), { name: "plain sides", figures: [5] })),
    ...found.sides.flatMap((side) => side.losses.map((loss) => none(`${side.letter}: ${loss}.`))),
    part("Where they ran", found.environment.length
      ? wide("Environment", table(["", "", ...letters], found.environment.map((fact) => [fact.name, fact.group, ...fact.values]), { name: "plain" }))
      : none("No difference.")),
    part("Verdicts", found.verdicts.length
      ? [wide(found.programs ? "Verdicts that differ" : "Verdicts that changed", table(["Case", "", ...letters, "Reason"], found.verdicts.slice(0, CHANGES_SHOWN).map((change) =>
        [change.case, verdict(change.tone, change.kind), ...change.verdicts, change.reason]), { name: "plain" })),
        left(found.verdicts.length, d3.sum(Object.values(found.counts)))]
      : none(found.programs ? "No verdict differs." : "No verdict changed.")),
    part(found.programs ? "Time per epoch, of two programs" : "Time per epoch", found.speeds.length ? speeds(found, width) : none(found.num_steady ? "No time moved by enough to be judged." : "No case was timed on both sides.")),
  ];
  if (found.num_steady) parts.push(none(`${found.num_steady} timed cases moved by less than what counts.`));
  if (found.num_unjudged) parts.push(none(`${found.num_unjudged} more moved, but less than these: harness compare judges all.`));
  if (found.refused.length) {
    parts.push(part("Times not compared", [wide("Not compared", table(["Case", "Side", "Reason"],
      found.refused.slice(0, CHANGES_SHOWN).map((one) => [one.case, one.letter, one.reason]), { name: "plain" })), left(found.refused.length, found.num_refused)]));
  }
  return h("div", { class: "comparison" }, parts);
}

function left(listed, all) {
  const more = all - Math.min(listed, CHANGES_SHOWN);
  return more > 0 ? h("p", { class: "remark" }, `${more} more are not listed here: harness compare lists all.`) : "";
}

function speeds({ speeds: rows, sides, programs }, width) {
  const shown = rows.slice(0, CHANGES_SHOWN);
  const many = sides.length > 2;
  const name = (row) => (many ? `${row.case} (${row.letter})` : row.case);
  const drawn = shown.filter((row) => [row.ratio.low, row.ratio.median, row.ratio.high].every(finite));
  const interval = (value) => (value ? speedup([value.low, value.median, value.high]) : "");
  const head = ["Case", ...(many ? ["Side"] : []), "A", many ? "Then" : sides[1].letter, "Time over A (99 %)", "", "Speed-up in A (95 %)", many ? "Speed-up then (95 %)" : `Speed-up in ${sides[1].letter} (95 %)`, "In words"];
  const cells = shown.map((row) => [row.case, ...(many ? [row.letter] : []), seconds(row.before_s), seconds(row.now_s), interval(row.ratio),
    row.relation === "unlike" ? verdict("not-verified", "unlike") : verdict(OUTCOME_TONE[row.outcome], programs && row.outcome === "pass" ? "not slower" : row.outcome),
    interval(row.before_speedup), interval(row.now_speedup), row.why || row.words]);
  return [drawn.length ? drawnInPart(width, drawn, (part, wide) => overA(part, name, wide)) : "", wide("Times", table(head, cells, { name: "plain speeds" })), left(rows.length, rows.length)];
}

function overA(rows, name, width) {
  const high = Math.min(d3.max(rows, (row) => row.ratio.high), 4 * d3.max(rows, (row) => row.ratio.median));
  const low = Math.max(d3.min(rows, (row) => row.ratio.low), 0.25 * d3.min(rows, (row) => row.ratio.median));
  const colour = (row) => `var(--${row.outcome === "pass" || row.outcome === null ? "parallel" : OUTCOME_TONE[row.outcome]})`;
  const margin = Math.min(300, 0.45 * width);
  const ticks = width < 560 ? 3 : 6;
  return draw("Times over those of side A", {
    width, height: 60 + 24 * rows.length, marginLeft: margin, marginRight: 30, marginBottom: 40,
    x: { type: "log", domain: [Math.min(low, 0.9), Math.max(high, 1.1)], label: "time over that of A", labelAnchor: "center", tickFormat: (v) => `${v}x`, ticks },
    y: { domain: rows.map(name), label: null, padding: 0.3, tickFormat: (text) => shortened(text, Math.floor(margin / 6.6)) },
    marks: [
      gridX({ ticks }), Plot.ruleX([1], { stroke: MUTED }),
      Plot.ruleY(rows, { y: name, x1: (row) => Math.max(row.ratio.low, low), x2: (row) => Math.min(row.ratio.high, high), stroke: colour, strokeWidth: 2 }),
      Plot.dot(rows, { y: name, x: (row) => row.ratio.median, fill: colour, r: 4.5, tip: true, title: (row) => row.words }),
    ],
  });
}
