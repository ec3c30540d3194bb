// Speed-ups with their intervals, over the serial run that the reader chooses, and the same as a table.
const TIMES_SHOWN = 40, GROUPS_SHOWN = 6;

function timesSection({ times: groups, baselines }, place) {
  let chosen = baselines.length ? baselines[0][0] : "";
  let ranks = "";
  const body = h("div", {});
  const sizes = [...new Set(groups.flatMap((group) => group.cases.map((one) => one.ranks)))].sort((a, b) => a - b);
  const refresh = () => {
    const width = place.clientWidth || WIDTH; // asked once: each answer lays out the whole page
    const shown = groups.map((group) => ({ ...group, cases: group.cases.filter((one) => !ranks || String(one.ranks) === ranks) })).filter((group) => group.cases.length);
    body.replaceChildren(paged(shown, (group) => timesGroup(group, chosen, baselines, width), GROUPS_SHOWN));
  };
  const select = (label, options, set) => h("label", {}, h("span", {}, label),
    h("select", { onchange: (event) => { set(event.target.value); refresh(); } }, options.map(([value, told]) => h("option", { value }, told))));
  place.append(h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    select("Speed-up over", baselines, (value) => { chosen = value; }),
    select("Ranks", [["", "all"], ...sizes.map((size) => [size, size])], (value) => { ranks = value; })), body);
  refresh();
  onResize(place, refresh);
}

function timesGroup({ title, cases }, chosen, baselines, width) {
  const over = (one) => one.over.find((run) => run.name === chosen);
  const figureOf = (one) => { const run = over(one); return run && run.speedup.length && run.speedup.every(finite) ? run.speedup : null; };
  const sorted = [...cases].sort((a, b) => ((figureOf(b) || [])[1] ?? -1) - ((figureOf(a) || [])[1] ?? -1));
  const shown = sorted.slice(0, TIMES_SHOWN);
  const article = h("article", { class: "timed" }, h("h3", {}, title), h("div", { class: "forest" }), timesTable(title, shown, baselines.filter(([name]) => name === chosen || name === "whole machine")));
  if (sorted.length > shown.length) article.append(h("p", { class: "note" }, `The ${shown.length} fastest of ${sorted.length}; choose a number of ranks to see others.`));
  const readable = shown.filter(figureOf);
  if (readable.length) {
    const told = baselines.find(([name]) => name === chosen)[1];
    article.querySelector(".forest").append(forest(title, readable.map((one) => ({ ...one, at: figureOf(one), told: over(one).figure })), width, told));
  }
  return article;
}

function forest(title, rows, width, over) {
  const name = (row) => `${row.strategy}, ${row.ranks} ${row.device}`;
  const narrow = width < 560;
  const high = Math.max(1.05, d3.max(rows, (row) => Math.max(row.at[1], row.ranks))) * 1.08;
  const clip = (value) => Math.min(value, high);
  return draw(`Speed-ups on ${title} over ${over}`, {
    width, height: 56 + 26 * rows.length, marginLeft: narrow ? 120 : 180, marginRight: narrow ? 20 : 170, marginTop: 8, marginBottom: 40,
    x: { domain: [0, high], label: `speed-up over ${over}`, labelAnchor: "center", tickFormat: (v) => `${v}x`, ticks: narrow ? 4 : 8 },
    y: { domain: rows.map(name), label: null, padding: 0.3 },
    marks: [
      gridX({ ticks: narrow ? 4 : 8 }),
      Plot.barX(rows.filter((row) => row.aa && row.aa.every(finite)), { y: name, x1: (row) => row.aa[0], x2: (row) => row.aa[1], fill: "var(--band)", insetTop: -5, insetBottom: -5 }),
      Plot.ruleX([1], { stroke: MUTED }),
      Plot.tickX(rows, { y: name, x: (row) => row.ranks, stroke: MUTED, strokeDasharray: "2 2" }),
      Plot.ruleY(rows, { y: name, x1: (row) => row.at[0], x2: (row) => clip(row.at[2]), stroke: PARALLEL, strokeWidth: 2 }),
      Plot.dot(rows, { y: name, x: (row) => row.at[1], fill: PARALLEL, r: 4.5, tip: true, title: (row) => `${row.strategy} on ${row.ranks} ranks\n${row.told}` }),
      ...(narrow ? [] : [Plot.text(rows, { y: name, frameAnchor: "right", textAnchor: "start", dx: 12, fill: INK, text: (row) => row.told })]),
    ],
  });
}

function timesTable(title, cases, baselines) {
  const head = ["Strategy", "Ranks", "Time per epoch", "Samples/s", "Efficiency", ...baselines.map(([, told]) => told)];
  const run = (one, name) => one.over.find((found) => found.name === name);
  const rows = cases.map((one) => [
    h("span", {}, h("a", { href: `#case-${one.line}` }, one.strategy), one.struck ? verdict(one.tone, one.struck) : h("small", {}, one.notes.join("; "))), `${one.ranks} ${one.device}`,
    one.struck ? h("s", {}, one.seconds) : one.seconds, one.samples, one.efficiency,
    ...baselines.map(([name]) => {
      const found = run(one, name);
      return found ? h("span", { title: found.detail }, found.figure || "", h("small", {}, found.seconds)) : "";
    }),
  ]);
  return wide(`Times of ${title}`, table(head, rows, { name: "times", figures: d3.range(1, head.length) }));
}
