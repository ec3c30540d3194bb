// What happens when the page opens.

// Of a part of the page whose own width is not known yet.
const WIDTH = 900;

const ON_PAPER = 20;

// Paper neither opens nor scrolls: what is grave is folded out and wide tables come in pieces, until it is printed.
function onPaper(cases) {
  let undo = [];
  addEventListener("beforeprint", () => {
    undo = (cases ? cases.foldOut(ON_PAPER) : []).map((node) => () => { node.open = false; });
    undo.push(...[...document.querySelectorAll("table.dense")].map(inPieces));
  });
  addEventListener("afterprint", () => undo.splice(0).forEach((act) => act()));
}

const COLUMNS_ON_PAPER = 20;

// Puts a table of few columns for every so many of a wide one beside it; returns what takes them away again.
function inPieces(table) {
  const columns = table.tHead.rows[0].cells.length;
  if (columns <= COLUMNS_ON_PAPER + 1) return () => {};
  const pieces = d3.range(1, columns, COLUMNS_ON_PAPER).map((first) => {
    const piece = table.cloneNode(true);
    for (const row of piece.rows) {
      [...row.cells].forEach((cell, at) => { if (at && (at < first || at >= first + COLUMNS_ON_PAPER)) cell.remove(); });
    }
    return piece;
  });
  table.after(...pieces);
  table.hidden = true;
  return () => { table.hidden = false; pieces.forEach((piece) => piece.remove()); };
}

function follow(cases) {
  const go = () => {
    const found = /^#case-(\d+)$/.exec(location.hash);
    if (found) cases.reveal(Number(found[1]));
  };
  addEventListener("hashchange", go);
  document.addEventListener("click", (event) => {
    // A link to where we are already changes no hash, and still opens what it names.
    const link = event.target.closest("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) go();
    const chip = event.target.closest("[data-verdict]");
    if (chip) cases.set({ text: "", framework: "", ranks: "", kind: cases.mixed ? "cases" : "both", verdict: chip.dataset.verdict });
  });
  return go;
}

async function start() {
  for (const button of document.querySelectorAll(".copy")) prepared(button);
  const [index, compared] = [await unpack("index"), await unpack("comparison")];
  if (compared) {
    const place = document.getElementById("comparison-body");
    place.append(comparison(compared, place.clientWidth || WIDTH, "h2"));
  }
  if (index) await sections(index);
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
}

async function sections(index) {
  const within = (id, act) => { const place = document.getElementById(id); if (place) act(place); };
  const drawing = new Map();
  const later = (id, act) => within(id, (place) => {
    const make = (content) => { if (content && !place.childElementCount) act(content, place); };
    drawing.set(id, async () => make(await unpack("sections")));
    whenNear(place, drawing.get(id));
    addEventListener("beforeprint", () => make(unpacked("sections")));
  });
  within("matrix", (place) => matrix(index, place));
  let cases = null;
  within("cases-body", (place) => { cases = new Cases(index, place); });
  later("times-body", timesSection);
  later("scaling-body", ({ scaling }, place) => scalingSection(scaling, place));
  later("changes-body", ({ changes }, place) => changesSection(changes, place));
  later("studies-body", ({ studies }, place) => studiesSection(studies, place));
  later("findings-body", ({ findings }, place) => findingsSection(findings, place));
  later("faults-body", ({ faults }, place) => faultsSection(faults, place));
  later("oracle-body", ({ oracle }, place) => oracleSection(oracle, place));
  onPaper(cases);
  const go = cases ? follow(cases) : () => {};
  if (!await stayCurrent(index.refresh_s, cases, drawing)) go();
  // What a browser that prints cannot wait for.
  setTimeout(() => { unpack("sections"); unpack("cases-0"); }, 300);
}

start();
