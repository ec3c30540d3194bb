// Charts: Observable Plot in the colours of the page, each with its numbers as a table beside it.
const INK = "var(--ink)", MUTED = "var(--muted)", GRID = "var(--line)";
const PARALLEL = "var(--parallel)", SERIAL = "var(--serial)", OTHER = "var(--other)", DIFFERENT = "var(--different)";

// Verdicts write infinity as the largest number; JSON knows neither infinity nor what is no number.
function finite(value) {
  return value !== null && value !== undefined && Math.abs(value) < 1e300;
}

function number(value, digits = 3) {
  if (!finite(value)) return "not finite";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(Math.max(0, digits - 2)).replace("e+", "e");
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
}

function seconds(value) {
  if (!finite(value)) return "not finite";
  if (Math.abs(value) < 1e-3 && value !== 0) return `${number(value * 1e6)} us`;
  if (Math.abs(value) < 1) return `${number(value * 1e3)} ms`;
  return `${number(value)} s`;
}

function times(value) {
  return finite(value) ? `${value.toFixed(2)}x` : "not finite";
}

function percent(value, digits = 0) {
  return finite(value) ? `${(value * 100).toFixed(digits)} %` : "not finite";
}

// Whole steps or rounds as ticks, however few there are.
function whole(last, about = 10) {
  const stride = Math.max(1, Math.ceil(last / about));
  return d3.range(0, last + 1, stride);
}

function draw(label, options) {
  const chart = Plot.plot({
    width: 500, height: 230, marginLeft: 52, marginRight: 14, marginTop: 18, marginBottom: 34,
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
