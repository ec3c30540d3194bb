// Charts: Observable Plot in the colours of the page, each with its numbers as a table beside it.
const INK = "var(--ink)", MUTED = "var(--muted)", GRID = "var(--line)";
const PARALLEL = "var(--parallel)", SERIAL = "var(--serial)", OTHER = "var(--other)", DIFFERENT = "var(--different)";

// Verdicts write infinity as the largest number; JSON knows neither infinity nor what is no number.
function finite(value) {
  return value !== null && value !== undefined && Math.abs(value) < 1e300;
}

// Figures read as everywhere in the report: what follows does what harness/report/words.py does.
function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "not finite";
  if (Math.abs(value) >= Number.MAX_VALUE) return value > 0 ? "infinite" : "-infinite";
  if (value === 0) return "0";
  const exponent = Math.floor(Math.log10(Math.abs(value)));
  if (exponent >= -3 && exponent < 6) return grouped(fixed(value, Math.max(0, digits - 1 - exponent)));
  const [near, power] = value.toExponential(digits - 1).split("e");
  const mantissa = even(near, value.toExponential(100).split("e")[0], digits - 1);
  return `${mantissa.replace(/\.00?$/, "")}e${Number(power)}`;
}

// With so many decimals; what lies exactly between two goes to the even one.
function fixed(value, digits) {
  return even(value.toFixed(digits), value.toFixed(100), digits);
}

function even(near, exact, digits) {
  const end = exact.indexOf(".") + 1 + digits;
  const down = exact.slice(0, digits ? end : end - 1);
  return /^50*$/.test(exact.slice(end)) && "02468".includes(down.at(-1)) ? down : near;
}

function grouped(text) {
  const [whole, decimals] = text.split(".");
  return [whole.replace(/\B(?=(\d{3})+$)/g, ","), ...(decimals === undefined ? [] : [decimals])].join(".");
}

function seconds(value) {
  if (!finite(value)) return number(value);
  const size = Math.abs(value);
  if (size < 1) return size >= 1e-3 || size === 0 ? `${number(value * 1e3)} ms` : `${number(value * 1e6)} us`;
  if (size < 120) return `${number(value)} s`;
  const minutes = Math.floor(value / 60);
  return `${minutes} min ${String(Math.trunc(value - 60 * minutes)).padStart(2, "0")} s`;
}

function times(value) {
  return finite(value) ? `${bound(value)}x` : number(value);
}

function percent(value, digits = 0) {
  if (!finite(value)) return number(value);
  return Math.abs(value) < 100 ? `${fixed(value * 100, digits)} %` : `${number(value * 100)} %`;
}

// A speed-up with its interval: 1.72x [1.65, 1.79].
function speedup([low, middle, high]) {
  return `${times(middle)} [${bound(low)}, ${bound(high)}]`;
}

function bound(value) {
  return finite(value) && Math.abs(value) < 100 ? fixed(value, 2) : number(value);
}

function bytes(value) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (!finite(value) || Math.abs(value) < 1024) return `${number(value)} ${unit}`;
    value /= 1024;
  }
  return `${number(value)} TiB`;
}

// A name for which there is little room, cut in its middle: long names differ at their ends.
function shortened(text, most) {
  if (text.length <= most) return text;
  const head = Math.ceil((most - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (most - 1 - head))}`;
}

// Whole steps or rounds as ticks, however few there are.
function whole(last, about = 10) {
  const stride = Math.max(1, Math.ceil(last / about));
  return d3.range(0, last + 1, stride);
}

function draw(label, options) {
  const chart = Plot.plot({
    width: Math.min(500, innerWidth - 34), height: 230, marginLeft: 52, marginRight: 14, marginTop: 18, marginBottom: 34,
    className: "drawn", ariaLabel: label, style: { fontFamily: "inherit", fontSize: "11.5px", overflow: "visible" },
    ...options,
  });
  // Plot names every layer ("dot", "rule"), which a group without a role must not have; the chart's own name stays.
  for (const layer of chart.querySelectorAll("g[aria-label]")) layer.removeAttribute("aria-label");
  return chart;
}

function gridY(options) { return Plot.gridY({ stroke: GRID, strokeOpacity: 1, ...options }); }
function gridX(options) { return Plot.gridX({ stroke: GRID, strokeOpacity: 1, ...options }); }

// The key of a chart; `kinds` holds [label, kind of mark], whose look is in the style sheet.
function key(kinds) {
  return h("ul", { class: "key" }, kinds.map(([label, kind]) => h("li", {}, h("i", { class: `swatch ${kind}` }), label)));
}

// A chart with title and caption; its numbers are made when somebody asks for them.
function figure({ title, caption, chart, keys, head, rows }) {
  const numbers = h("details", { class: "numbers" }, h("summary", {}, "Numbers"));
  numbers.addEventListener("toggle", () => {
    if (numbers.open && numbers.childElementCount === 1) {
      numbers.append(wide(`${title}, numbers`, table(head, rows, { name: "plain", figures: d3.range(1, head.length) })));
    }
  });
  return h("figure", {},
    h("figcaption", {}, h("b", {}, title), " ", caption), chart, keys ? key(keys) : null, numbers);
}

// A chart as wide as what it stands in, first and whenever that changes.
function fitted(width, make) {
  const node = h("div", { class: "fitted" }, make(width));
  onResize(node, () => node.replaceChildren(make(node.clientWidth)), width);
  return node;
}

// The first of many rows as a chart, and the others when they are asked for.
const DRAWN = 40;

function drawnInPart(width, rows, make) {
  let shown = rows.slice(0, DRAWN);
  const draw = () => fitted(width, (wide) => make(shown, wide));
  if (rows.length <= DRAWN) return draw();
  const more = h("button", { type: "button", class: "more" }, "Show all");
  const told = h("p", { class: "note" }, `The chart shows the first ${DRAWN} of ${grouped(`${rows.length}`)}. `, more);
  const node = h("div", {}, draw(), told);
  more.addEventListener("click", () => {
    shown = rows;
    node.replaceChildren(draw());
  });
  return node;
}
