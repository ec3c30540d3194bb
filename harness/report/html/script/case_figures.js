// The figures of one case: a function for each kind that harness/report/sections/figures.py emits.
const PARTS = {
  data: "data", forward: "forward", backward: "backward", step: "step as a whole",
  communication: "waiting for ranks", optimizer: "optimizer", idle: "idle", other: "other",
};

const FIGURES = {
  deviation({ points }) {
    const rows = points.map(([deviation, floor, limit], step) => ({ step, deviation, floor, limit }));
    const values = points.flat().filter((value) => finite(value) && value > 1e-150);
    const [low, high] = values.length ? d3.extent(values) : [1e-16, 1];
    const shown = (value) => (finite(value) ? Math.max(value, low / 2) : null);
    const line = (name, options) => Plot.line(rows, { x: "step", y: (row) => shown(row[name]), ...options });
    return {
      chart: draw("Divergence of the parameters over the steps", {
        x: { label: "step", ticks: whole(points.length - 1), tickFormat: "d" },
        y: { type: "log", domain: [low / 2, high * 2], label: null, ticks: decades(low / 2, high * 2), tickFormat: d3.format(".0e") },
        marks: [
          gridY({ ticks: decades(low / 2, high * 2) }),
          line("floor", { stroke: SERIAL, strokeWidth: 2 }),
          line("limit", { stroke: DIFFERENT, strokeDasharray: "5 3" }),
          line("deviation", { stroke: PARALLEL, strokeWidth: 2 }),
          Plot.dot(rows.filter((row) => finite(row.deviation)), {
            x: "step", y: (row) => shown(row.deviation), fill: PARALLEL, r: 3, tip: true,
            title: (row) => `step ${row.step}\ndivergence ${number(row.deviation)}\nfloor ${number(row.floor)}\nthreshold ${number(row.limit)}`,
          }),
          ...broken(rows.filter((row) => !finite(row.deviation)), high * 2),
        ],
      }),
      keys: [["divergence", "line parallel"], ["floor", "line serial"], ["threshold", "line limit"]],
      head: ["step", "divergence", "floor", "threshold"],
      rows: rows.map((row) => [`${row.step}`, number(row.deviation), number(row.floor), number(row.limit)]),
    };
  },

  loss({ points, reference }) {
    const rows = points.map(([serial, parallel], step) => ({ step, serial, parallel }));
    const values = points.flat().filter(finite);
    const top = values.length ? d3.max(values) : 1;
    const line = (name, options) =>
      Plot.line(rows, { x: "step", y: (row) => (finite(row[name]) ? row[name] : null), ...options });
    return {
      chart: draw(`Loss over the steps, ${reference} and parallel`, {
        x: { label: "step", ticks: whole(points.length - 1), tickFormat: "d" },
        y: { label: null, nice: true, ticks: 5 },
        marks: [
          gridY({ ticks: 5 }),
          line("serial", { stroke: SERIAL, strokeWidth: 5, strokeOpacity: 0.7 }),
          line("parallel", { stroke: PARALLEL, strokeWidth: 2 }),
          Plot.dot(rows.filter((row) => finite(row.parallel)), {
            x: "step", y: "parallel", fill: PARALLEL, r: 3, tip: true,
            title: (row) => `step ${row.step}\n${reference} ${number(row.serial, 6)}\nparallel ${number(row.parallel, 6)}`,
          }),
          ...broken(rows.filter((row) => !finite(row.parallel)), top),
        ],
      }),
      keys: [[reference, "line serial thick"], ["parallel", "line parallel"]],
      head: ["step", reference, "parallel"],
      rows: rows.map((row) => [`${row.step}`, number(row.serial, 6), number(row.parallel, 6)]),
    };
  },

  epochs({ runs }) {
    const rows = runs.flatMap(([run, kind, values, before]) => [
      ...before.map((value, index) => ({ run, kind, round: index - before.length, value, warm: true })),
      ...values.map((value, round) => ({ run, kind, round, value, warm: false })),
    ]).filter((row) => finite(row.value));
    const names = runs.map(([run]) => run);
    const colour = { type: "categorical", domain: names, range: names.map((_, index) => (index ? `var(--series-${index})` : PARALLEL)) };
    const measured = rows.filter((row) => !row.warm);
    return {
      chart: draw("Every measured epoch, round by round", {
        x: { label: "round", tickFormat: (v) => (Number.isInteger(v) && v >= 0 ? `${v}` : ""), ticks: 8 },
        y: { label: null, zero: true, ticks: 5, tickFormat: seconds, nice: true },
        color: colour,
        marks: [
          gridY({ ticks: 5 }),
          Plot.line(measured, { x: "round", y: "value", stroke: "run", strokeOpacity: 0.35 }),
          Plot.dot(rows.filter((row) => row.warm), { x: "round", y: "value", stroke: "run", r: 2.5, strokeOpacity: 0.7 }),
          Plot.dot(measured, { x: "round", y: "value", fill: "run", r: 3 }),
          Plot.tip(rows, Plot.pointer({ x: "round", y: "value", title: (row) => `${row.run}\n${row.warm ? "warm-up" : `round ${row.round}`}: ${seconds(row.value)}` })),
        ],
      }),
      keys: names.map((name, index) => [name, `dot series-${index}`]),
      head: ["run", "warm-up, then every round"],
      rows: runs.map(([run, , values, before]) => [run, [...before.map((v) => `(${seconds(v)})`), ...values.map(seconds)].join(", ")]),
    };
  },

  ratios({ ratios, interval: [low, middle, high], aa, ideal }) {
    const rows = ratios.map((value, round) => ({ round, value })).filter((row) => finite(row.value));
    return {
      chart: draw("Speed-up of every round", {
        x: { label: "round", ticks: whole(ratios.length - 1), tickFormat: "d" },
        y: { label: null, tickFormat: (v) => `${v}x`, ticks: 5, nice: true },
        marks: [
          gridY({ ticks: 5 }),
          ...(aa && aa.every(finite) ? [Plot.rectY([aa], { y1: aa[0], y2: aa[1], fill: "var(--band)" })] : []),
          Plot.rectY([0], { y1: low, y2: high, fill: PARALLEL, fillOpacity: 0.15 }),
          Plot.ruleY([1], { stroke: MUTED }),
          Plot.ruleY([middle], { stroke: PARALLEL, strokeWidth: 1.6 }),
          Plot.dot(rows, { x: "round", y: "value", fill: PARALLEL, r: 3, tip: true, title: (row) => `round ${row.round}: ${times(row.value)}` }),
        ],
      }),
      keys: [["a round", "dot parallel"], ["median", "line parallel"], ["95 % interval", "area parallel"], ...(aa ? [["A/A", "area band"]] : [])],
      head: ["round", "speed-up"],
      rows: [...ratios.map((value, round) => [`${round}`, times(value)]), ["median", `${speedup([low, middle, high])}, ideal ${ideal}x`]],
    };
  },

  skew({ ranks, names }) {
    // As many digits as tell one tick from the next.
    const spread = (values) => (values.length ? d3.max(values) - d3.min(values) : 0);
    const digits = (share) => (share > 0 ? Math.min(4, Math.max(0, -Math.floor(Math.log10(share * 10)))) : 0);
    const fine = digits(spread(ranks.flat().filter(finite)));
    const rows = ranks.flatMap((values, rank) => values.map((value, round) => ({ rank: names[rank], round, value }))).filter((row) => finite(row.value));
    return {
      chart: draw("Each rank's own time as a share of the epoch's", {
        height: 60 + 22 * ranks.length, marginLeft: 60,
        x: { label: null, tickFormat: (v) => percent(v, fine), ticks: 5, nice: true },
        y: { label: null, domain: names, padding: 0.3 },
        marks: [
          gridX({ ticks: 5 }),
          Plot.dot(rows, { x: "value", y: "rank", fill: OTHER, fillOpacity: 0.6, r: 3.5, tip: true, title: (row) => `${row.rank}, round ${row.round}: ${percent(row.value, 1)}` }),
          Plot.tickX(rows, Plot.groupY({ x: "median" }, { x: "value", y: "rank", stroke: INK, strokeWidth: 2 })),
        ],
      }),
      keys: [["an epoch", "dot other"], ["median", "line ink"]],
      head: ["rank", "every epoch"],
      rows: ranks.map((values, rank) => [names[rank], values.map((v) => percent(v, 1)).join(", ")]),
    };
  },

  parts({ rows: bars }) {
    const rows = bars.flatMap(([label, parts]) => Object.keys(PARTS).filter((part) => finite(parts[part]) && parts[part] > 0).map((part) => ({ label, part, value: parts[part] })));
    const longest = d3.max(bars, ([, parts]) => d3.sum(Object.values(parts).filter(finite))) || 1;
    const shown = Object.keys(PARTS).filter((part) => rows.some((row) => row.part === part && row.value > 0.002 * longest));
    return {
      chart: draw("Where the time of an epoch goes, a bar a rank", {
        height: 60 + 26 * bars.length, marginLeft: 60,
        x: { label: null, tickFormat: seconds, ticks: 5 },
        y: { label: null, domain: bars.map(([label]) => label), padding: 0.25 },
        color: { type: "categorical", domain: Object.keys(PARTS), range: Object.keys(PARTS).map((part) => `var(--part-${part})`) },
        marks: [
          gridX({ ticks: 5 }),
          Plot.barX(rows, { x: "value", y: "label", fill: "part", order: Object.keys(PARTS), tip: true, title: (row) => `${row.label}, ${PARTS[row.part]}: ${seconds(row.value)}` }),
        ],
      }),
      keys: shown.map((part) => [PARTS[part], `box part-${part}`]),
      head: ["", ...shown.map((part) => PARTS[part])],
      rows: bars.map(([label, parts]) => [label, ...shown.map((part) => seconds(parts[part] || 0))]),
    };
  },

  heat({ tensors, columns, values, allowed }) {
    const cells = values.flatMap((row, tensor) => row.map((value, column) => ({ tensor: tensors[tensor], column: columns[column], value })))
      .filter((cell) => cell.value !== null);
    const over = (value) => !finite(value) || value > allowed;
    const most = d3.max(cells, (cell) => (finite(cell.value) ? cell.value : 0)) || 1;
    // Faint to strong up to what is allowed, and once more beyond it; a value is read in ink on either.
    const within = d3.scaleLog([0.1, allowed], [0.06, 0.5]).clamp(true);
    const beyond = d3.scaleLog([allowed, Math.max(most, allowed * 10)], [0.3, 0.6]).clamp(true);
    const label = Math.min(220, 20 + 6.4 * d3.max(tensors, (name) => name.length));
    const many = columns.length > 12;
    return {
      chart: draw("Deviations of tensors", {
        width: Math.max(500, label + 40 * Math.min(columns.length, 12)), height: 96 + 20 * tensors.length, marginLeft: label, marginTop: many ? 20 : 90, marginRight: 30, marginBottom: 6,
        x: { axis: "top", domain: columns, label: null, tickRotate: many ? 0 : -35, tickFormat: (name) => (many ? name.replace("step ", "") : name), padding: 0.04 },
        y: { domain: tensors, label: null, padding: 0.06, tickFormat: (name) => (name.length > 32 ? `…${name.slice(-31)}` : name) },
        marks: [
          Plot.cell(cells, {
            x: "column", y: "tensor", fill: (cell) => (over(cell.value) ? DIFFERENT : "var(--equivalent)"),
            fillOpacity: (cell) => (!finite(cell.value) ? 0.6 : over(cell.value) ? beyond(cell.value) : within(Math.max(cell.value, 1e-9))),
            tip: true, title: (cell) => `${cell.tensor}\n${cell.column}: ${number(cell.value)}`,
          }),
          ...(many ? [] : [Plot.text(cells, { x: "column", y: "tensor", text: (cell) => number(cell.value, 2), fill: INK, fontSize: 11, pointerEvents: "none" })]),
        ],
      }),
      keys: [["within", "box within"], ["over the threshold", "box over"]],
      head: ["tensor", ...columns],
      rows: values.map((row, tensor) => [tensors[tensor], ...row.map((value) => (value === null ? "" : number(value)))]),
    };
  },

  seeds({ seeds, differences, interval: [low, middle, high], margin }) {
    const rows = differences.map((value, index) => ({ seed: `${seeds[index]}`, value })).filter((row) => finite(row.value));
    return {
      chart: draw("Parallel minus serial for every seed", {
        x: { domain: rows.map((row) => row.seed), label: "seed", ticks: rows.length > 12 ? [] : undefined },
        y: { label: null, nice: true, ticks: 5 },
        marks: [
          gridY({ ticks: 5 }),
          Plot.rectY([0], { y1: low, y2: high, fill: PARALLEL, fillOpacity: 0.15 }),
          Plot.ruleY([-margin, margin], { stroke: DIFFERENT, strokeDasharray: "5 3" }),
          Plot.ruleY([0], { stroke: MUTED }),
          Plot.ruleY([middle], { stroke: PARALLEL, strokeWidth: 1.6 }),
          Plot.dot(rows, { x: "seed", y: "value", fill: PARALLEL, r: 3.5, tip: true, title: (row) => `seed ${row.seed}: ${number(row.value)}` }),
        ],
      }),
      keys: [["a seed", "dot parallel"], ["mean", "line parallel"], ["90 % interval", "area parallel"], ["margin", "line limit"]],
      head: ["seed", "parallel - serial"],
      rows: rows.map((row) => [row.seed, number(row.value)]),
    };
  },

  losses({ ideal, factors }) {
    const steps = [{ label: "ideal", start: 0, end: ideal, kind: "kept" }];
    let left = ideal;
    for (const [label, factor] of factors) {
      const next = left * (finite(factor) ? factor : 1);
      steps.push({ label, start: Math.min(left, next), end: Math.max(left, next), kind: next < left ? "lost" : "gained", factor });
      left = next;
    }
    steps.push({ label: "measured", start: 0, end: left, kind: "measured" });
    const colours = { kept: SERIAL, lost: DIFFERENT, gained: "var(--equivalent)", measured: PARALLEL };
    const told = (row) => (row.factor === undefined ? times(row.end) : finite(row.factor) ? `× ${fixed(row.factor, 3)}` : number(row.factor));
    return {
      chart: draw("From the ideal to the measured speed-up", {
        height: 50 + 26 * steps.length, marginLeft: 108, marginRight: 60,
        x: { label: null, tickFormat: (v) => `${v}x`, ticks: 5, zero: true },
        y: { label: null, domain: steps.map((row) => row.label), padding: 0.25 },
        marks: [
          gridX({ ticks: 5 }),
          Plot.barX(steps, { x1: "start", x2: "end", y: "label", fill: (row) => colours[row.kind] }),
          Plot.text(steps, { x: "end", y: "label", text: told, textAnchor: "start", dx: 6, fill: INK }),
        ],
      }),
      head: ["factor", "speed-up"],
      rows: steps.map((row) => [row.label, told(row)]),
    };
  },
};

// Powers of ten within a range, thinned to about five.
function decades(low, high, about = 5) {
  const [first, last] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
  return d3.range(first, last + 1, Math.max(1, Math.ceil((last - first + 1) / about))).map((power) => 10 ** power);
}

// What is not a number is marked at the edge of the chart.
function broken(rows, y) {
  return rows.length ? [Plot.dot(rows, { x: "step", y: () => y, symbol: "times", stroke: DIFFERENT, strokeWidth: 2, r: 4, tip: true, title: (row) => `step ${row.step}: not finite` })] : [];
}

// A figure that cannot be drawn takes nothing else of its case along.
function caseFigure({ kind, title, caption, data }) {
  try {
    return figure({ title, caption, ...FIGURES[kind](data) });
  } catch (error) {
    console.error(`${title}:`, error);
    return h("figure", {}, h("figcaption", {}, h("b", {}, title), " ", caption), h("p", { class: "note" }, "This figure could not be drawn."));
  }
}
