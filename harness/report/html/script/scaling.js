// Curves over ranks: speed-up with the fitted law, efficiency, and what a rank and a joule bring.
const CURVES_SHOWN = 6, LONE_SHOWN = 60;

function scalingSection(views, place) {
  const drawn = views.filter((view) => view.drawn);
  const lone = views.filter((view) => !view.drawn);
  place.append(...(drawn.length ? [paged(drawn, scalingCurve, CURVES_SHOWN)] : []), ...(lone.length ? [loneTable(lone)] : []));
}

function scalingCurve(view) {
  const measured = view.sizes.filter((size) => size.measured);
  const head = ["Ranks", "Samples/s", "Speed-up", "Efficiency", view.strong ? "Karp-Flatt" : "Serial fraction"];
  return h("article", { class: "scaling" }, h("h3", {}, view.title, h("small", {}, view.manner)),
    h("div", { class: "beside" },
      h("div", { class: "figures" }, speedupCurve(view, measured), efficiencyCurve(view, measured), ...extraCurves(measured)),
      h("div", {}, view.told.map((told, index) => h("p", { class: index ? null : "limit" }, told)),
        wide(`${view.title}, sizes`, table(head, view.sizes.map((size) => [`${size.ranks}`, ...size.figures]), { name: "sizes", figures: [1, 2, 3, 4] })))));
}

function rankAxis(view) {
  const sizes = view.sizes.map((size) => size.ranks);
  return { type: "log", base: 2, label: "ranks", ticks: sizes, tickFormat: "d", domain: [1, d3.max([2, ...sizes])] };
}

function speedupCurve(view, measured) {
  const last = d3.max(measured, (size) => size.ranks) || 1;
  const farthest = d3.max(view.sizes, (size) => size.ranks) || 1;
  const law = view.law.filter((point) => point.every(finite));
  const lows = [1, ...measured.map((size) => size.speedup[0]), ...law.map((point) => point[1])].filter((value) => finite(value) && value > 0);
  const held = view.held_out.length && view.held_out.every(finite) ? [view.held_out] : [];
  return figure({
    title: "Speed-up", caption: law.length ? `Measured, with 95 % intervals, and the law (${view.law_name}); dashed where it foretells.` : "Measured, with 95 % intervals.",
    chart: draw(`Speed-up of ${view.title} over ranks`, {
      height: 290,
      x: rankAxis(view),
      y: { type: "log", base: 2, label: null, domain: [Math.min(1, d3.min(lows)), farthest], tickFormat: (v) => `${v}x` },
      marks: [
        gridY(),
        Plot.areaY(law, { x: "0", y1: "1", y2: "3", fill: PARALLEL, fillOpacity: 0.13, clip: true }),
        Plot.line([[1, 1], [farthest, farthest]], { x: "0", y: "1", stroke: MUTED, strokeDasharray: "2 3" }),
        Plot.line(law.filter((point) => point[0] <= last), { x: "0", y: "2", stroke: PARALLEL, clip: true }),
        Plot.line(law.filter((point) => point[0] >= last), { x: "0", y: "2", stroke: PARALLEL, strokeDasharray: "6 4", clip: true }),
        Plot.ruleX(measured, { x: "ranks", y1: (size) => size.speedup[0], y2: (size) => size.speedup[2], stroke: PARALLEL, strokeWidth: 2 }),
        Plot.dot(measured, { x: "ranks", y: (size) => size.speedup[1], fill: PARALLEL, r: 4.5, tip: true, title: (size) => `${size.ranks} ranks\n${size.figures[1]}` }),
        Plot.ruleX(held, { x: (point) => point[0], y1: (point) => point[1], y2: (point) => point[3], stroke: OTHER, strokeWidth: 2, dx: 7 }),
        Plot.dot(held, { x: (point) => point[0], y: (point) => point[2], stroke: OTHER, strokeWidth: 2, fill: "var(--page)", r: 4.5, dx: 7 }),
      ],
    }),
    keys: [["measured", "dot parallel"], ["ideal", "line dotted"], ...(law.length ? [[`${view.law_name}, 95 %`, "line parallel"], ["foretold", "line parallel dashed"]] : []), ...(held.length ? [["held out", "dot hollow"]] : [])],
    head: ["ranks", "low", "median", "high"],
    rows: view.sizes.map((size) => [`${size.ranks}${size.measured ? "" : " (foretold)"}`, ...size.speedup.map(times)]),
  });
}

function efficiencyCurve(view, measured) {
  const foretold = view.sizes.filter((size) => !size.measured);
  const ends = [...measured, ...foretold];
  return figure({
    title: "Efficiency", caption: "Speed-up per rank.",
    chart: draw(`Efficiency of ${view.title} over ranks`, {
      height: 200, x: rankAxis(view), y: { label: null, zero: true, tickFormat: (v) => percent(v), ticks: 5 },
      marks: [
        gridY({ ticks: 5 }), Plot.ruleY([1], { stroke: MUTED, strokeDasharray: "2 3" }),
        Plot.line(ends, { x: "ranks", y: (size) => size.efficiency[1], stroke: PARALLEL, strokeOpacity: 0.5, strokeDasharray: "6 4" }),
        Plot.ruleX(ends, { x: "ranks", y1: (size) => size.efficiency[0], y2: (size) => size.efficiency[2], stroke: PARALLEL, strokeWidth: 2, strokeOpacity: (size) => (size.measured ? 1 : 0.4) }),
        Plot.dot(measured, { x: "ranks", y: (size) => size.efficiency[1], fill: PARALLEL, r: 4, tip: true, title: (size) => `${size.ranks} ranks\n${size.figures[2]}` }),
        Plot.dot(foretold, { x: "ranks", y: (size) => size.efficiency[1], stroke: PARALLEL, fill: "var(--page)", r: 4 }),
      ],
    }),
    keys: [["measured", "dot parallel"], ["foretold", "dot hollow-parallel"]],
    head: ["ranks", "low", "median", "high"],
    rows: ends.map((size) => [`${size.ranks}${size.measured ? "" : " (foretold)"}`, ...size.efficiency.map((value) => percent(value, 1))]),
  });
}

function extraCurves(measured) {
  const plain = (title, caption, value, format) => {
    const rows = measured.filter((size) => finite(size[value]));
    return rows.length < 2 ? null : figure({
      title, caption,
      chart: draw(`${title} over ranks`, {
        height: 170, marginLeft: 64, x: { type: "log", base: 2, label: "ranks", ticks: rows.map((size) => size.ranks), tickFormat: "d" },
        y: { label: null, zero: true, ticks: 4, tickFormat: format },
        marks: [gridY({ ticks: 4 }), Plot.line(rows, { x: "ranks", y: value, stroke: OTHER }), Plot.dot(rows, { x: "ranks", y: value, fill: OTHER, r: 4, tip: true, title: (size) => `${size.ranks} ranks: ${format(size[value])}` })],
      }),
      head: ["ranks", title.toLowerCase()], rows: rows.map((size) => [`${size.ranks}`, format(size[value])]),
    });
  };
  return [
    plain("Memory", "The most that one rank took.", "memory_bytes", bytes),
    plain("Energy", "Samples per joule.", "samples_per_j", (v) => number(v)),
  ].filter(Boolean);
}

function loneTable(views) {
  const rows = views.slice(0, LONE_SHOWN).flatMap((view) => view.sizes.filter((size) => size.measured).map((size) => [
    h("span", {}, view.title, h("small", {}, view.manner)), `${size.ranks}`, size.figures[1], size.figures[2], view.told[0]]));
  const head = ["Timed on one size", "Ranks", "Speed-up", "Efficiency", "What limits, as far as one size tells"];
  return h("div", {}, wide("Strategies timed on one size", table(head, rows, { name: "lone" })),
    views.length > LONE_SHOWN ? h("p", { class: "note" }, `${views.length - LONE_SHOWN} more are in the list of cases.`) : null);
}
