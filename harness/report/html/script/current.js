// A page of a run that goes on loads itself again, and comes back as its reader left it.

// Says whether there was something to come back to.
async function stayCurrent(seconds, cases, drawing) {
  const before = seconds ? (history.state || {}).left : null;
  if (before) await comeBack(before, cases, drawing);
  if (seconds) loadAgain(seconds, cases, drawing, Boolean(before && before.paused));
  return Boolean(before);
}

function loadAgain(seconds, cases, drawing, paused) {
  const place = document.getElementById("live");
  const told = h("span", {}), button = h("button", { type: "button", id: "pause" });
  let waiting = 0;
  const leave = () => {
    // No more than a comfort: where a browser keeps no state, the page begins anew.
    try { history.replaceState({ left: { ...leaving(cases, drawing), paused } }, ""); } catch { /* as said */ }
  };
  const set = (now) => {
    if (now !== paused) {
      paused = now;
      leave();
    }
    clearTimeout(waiting);
    told.textContent = paused ? "running; this page waits " : `running; this page loads itself again every ${seconds} s `;
    button.textContent = paused ? "Go on" : "Pause";
    if (!paused) waiting = setTimeout(() => { leave(); location.reload(); }, seconds * 1000);
  };
  button.addEventListener("click", () => set(!paused));
  history.scrollRestoration = "manual"; // what is drawn late would make it wrong
  place.append(told, button);
  place.hidden = false;
  set(paused);
}

// What can be named again on the next page; numbers of cases may be others by then.
function leaving(cases, drawing) {
  const drawn = [...drawing.keys()].filter((id) => document.getElementById(id).childElementCount);
  const anchors = [...document.querySelectorAll("header, section[id], details.case")];
  const at = anchors.findLast((node) => node.getBoundingClientRect().top <= 1) || anchors[0];
  const focused = document.activeElement;
  const own = cases ? Object.keys(cases.controls).find((name) => cases.controls[name] === focused) : null;
  const opened = focused.closest("details.case > summary");
  return {
    cases: cases ? cases.state() : null, drawn,
    at: { id: at.id, name: named(at, cases), offset: at.getBoundingClientRect().top },
    focus: own ? { control: own, caret: focused.selectionStart ?? null } : opened ? { name: named(opened.parentElement, cases) } : { id: focused.id },
    hash: named(document.getElementById(location.hash.slice(1)), cases),
  };
}

function named(node, cases) {
  return node && node.matches("details.case") ? caseName(cases.lineOf(node)) : "";
}

async function comeBack(left, cases, drawing) {
  const found = (name) => {
    const line = name ? cases.lines.find((one) => caseName(one) === name) : null;
    return line ? document.getElementById(`case-${line.number}`) : null;
  };
  await Promise.all(left.drawn.map((id) => (drawing.has(id) ? drawing.get(id)() : null)));
  if (cases && left.cases) await cases.restore(left.cases);
  const hash = found(left.hash);
  if (hash) history.replaceState(null, "", `#${hash.id}`);
  const { control, caret, name, id } = left.focus;
  const focus = control ? cases.controls[control] : name ? found(name)?.querySelector("summary") : id ? document.getElementById(id) : null;
  if (focus) focus.focus({ preventScroll: true });
  if (focus && caret !== null && caret !== undefined) focus.setSelectionRange(caret, caret);
  const at = found(left.at.name) || (left.at.id ? document.getElementById(left.at.id) : null);
  scrollTo({ top: at ? scrollY + at.getBoundingClientRect().top - left.at.offset : -left.at.offset, behavior: "instant" });
}
