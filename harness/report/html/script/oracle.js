// How far the oracle can be trusted: shares of clean and of wrong runs beyond each threshold, and one over the other.
function oracleSection({ curves, rocs }, place) {
  place.append(...curves.map(beyondThreshold), ...rocs.map(rocCurve));
}

function beyondThreshold(curve) {
  const rows = curve.thresholds.map((threshold, at) => ({ threshold, clean: curve.clean[at], bugs: curve.bugs[at] })).filter((row) => row.threshold > 0);
  const [low, high] = [rows[0].threshold, rows[rows.length - 1].threshold];
  return figure({
    title: curve.precision,
    caption: `${grouped(`${curve.num_clean}`)} clean, ${grouped(`${curve.num_bugs}`)} wrong runs: the share of each beyond a threshold, in units of what rounding explains.`,
    chart: draw(`${curve.precision}: shares of clean and wrong runs beyond a threshold`, {
      x: { type: "log", label: "threshold", ticks: decades(low, high), tickFormat: d3.format(".0e") },
      y: { label: null, domain: [0, 1], tickFormat: (v) => percent(v), ticks: 4 },
      marks: [
        gridY({ ticks: 4 }), Plot.ruleX([curve.factor], { stroke: DIFFERENT, strokeDasharray: "5 3" }),
        Plot.line(rows, { x: "threshold", y: "clean", stroke: SERIAL, strokeWidth: 3 }),
        Plot.line(rows, { x: "threshold", y: "bugs", stroke: PARALLEL, strokeWidth: 2 }),
        Plot.tip(rows, Plot.pointerX({ x: "threshold", y: "bugs", title: (row) => `beyond ${number(row.threshold)}\nclean ${percent(row.clean, 2)}\nwith a bug ${percent(row.bugs, 2)}` })),
      ],
    }),
    keys: [["clean", "line serial"], ["with a bug", "line parallel"], [`K = ${curve.factor}`, "line limit"]],
    head: ["threshold", "clean", "with a bug"],
    rows: rows.map((row) => [number(row.threshold), percent(row.clean, 2), percent(row.bugs, 2)]),
  });
}

function rocCurve(roc) {
  const rows = roc.thresholds.map((threshold, at) => ({ threshold, wrong: roc.false_alarms[at], right: roc.detected[at] }));
  const name = (row) => (row.threshold === null ? "at an end" : `threshold ${number(row.threshold)}`);
  return figure({
    title: `ROC, ${roc.precision}`, caption: `${roc.told} Area under the curve ${finite(roc.area) ? fixed(roc.area, 4) : number(roc.area)}.`,
    chart: draw(`${roc.precision}: wrong runs detected over clean runs called different`, {
      x: { label: "clean runs called different", domain: [0, 1], tickFormat: (v) => percent(v), ticks: 5 },
      y: { label: null, domain: [0, 1], tickFormat: (v) => percent(v), ticks: 4 },
      marks: [
        gridY({ ticks: 4 }), Plot.line([[0, 0], [1, 1]], { x: "0", y: "1", stroke: MUTED, strokeDasharray: "2 3" }),
        Plot.line(rows, { x: "wrong", y: "right", stroke: PARALLEL, strokeWidth: 2 }),
        Plot.dot(rows, { x: "wrong", y: "right", fill: PARALLEL, r: 2, tip: true, title: (row) => `${name(row)}\ndetected ${percent(row.right, 2)}\nfalse alarms ${percent(row.wrong, 2)}` }),
        Plot.dot([rows[roc.at]], { x: "wrong", y: "right", stroke: DIFFERENT, strokeWidth: 2, r: 6 }),
      ],
    }),
    keys: [["every threshold", "line parallel"], ["guessing", "line dotted"], [`K = ${roc.factor}`, "dot ring"]],
    head: ["threshold", "false alarms", "detected"],
    rows: rows.map((row) => [name(row), percent(row.wrong, 2), percent(row.right, 2)]),
  });
}
