// What happens when the page opens.
function onResize(node, act) {
  let width = node.clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(node.clientWidth - width) > 20) {
      width = node.clientWidth;
      act();
    }
  }).observe(node);
}

const ON_PAPER = 20;

function onPaper(cases) {
  let folded = [];
  addEventListener("beforeprint", () => { folded = cases.foldOut(ON_PAPER); });
  addEventListener("afterprint", () => folded.forEach((node) => { node.open = false; }));
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
  go();
}

function stayCurrent(seconds) {
  if (!seconds) return;
  const told = document.getElementById("live");
  told.hidden = false;
  told.textContent = `running; this page loads itself again every ${seconds} s`;
  setTimeout(() => location.reload(), seconds * 1000);
}

async function start() {
  for (const button of document.querySelectorAll(".copy")) prepared(button);
  const [index, compared] = [await unpack("index"), await unpack("comparison")];
  if (compared) document.getElementById("comparison-body").append(comparison(compared, "h2"));
  if (index) sections(index);
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
}

function sections(index) {
  const within = (id, act) => { const place = document.getElementById(id); if (place) act(place); };
  within("matrix", (place) => matrix(index, place));
  within("cases-body", (place) => {
    const cases = new Cases(index, place);
    follow(cases);
    onPaper(cases);
  });
  stayCurrent(index.refresh_s);
  const later = (id, act) => within(id, (place) => {
    const make = (content) => { if (content && !place.childElementCount) act(content, place); };
    whenNear(place, async () => make(await unpack("sections")));
    addEventListener("beforeprint", () => make(unpacked("sections")));
  });
  later("times-body", timesSection);
  later("scaling-body", ({ scaling }, place) => scalingSection(scaling, place));
  later("changes-body", ({ changes }, place) => changesSection(changes, place));
  later("studies-body", ({ studies }, place) => studiesSection(studies, place));
  later("findings-body", ({ findings }, place) => findingsSection(findings, index.lines, place));
  later("faults-body", ({ faults }, place) => faultsSection(faults, index.lines, place));
  later("oracle-body", ({ oracle }, place) => oracleSection(oracle, place));
  // What a browser that prints cannot wait for.
  setTimeout(() => { unpack("sections"); unpack("cases-0"); }, 300);
}

start();
