// Renews the parts marked data-live from the page's own address. Without this script the page is
// whole, and shows the moment at which it was asked for.
"use strict";

const EVERY = 5000; // milliseconds
const LONGEST = 60000; // between two tries while nobody answers

const beat = document.getElementById("beat");
const said = document.getElementById("beat-text");
const pause = document.getElementById("pause");
let paused = false;
let wait = EVERY;

function show(state, text) {
  beat.className = `beat ${state}`;
  if (said.textContent !== text) said.textContent = text;
}

// What a person holds on to while the table below them changes: focus, open details, scrolling.
function replace(old, fresh) {
  if (old.innerHTML === fresh.innerHTML) return;
  const focus = old.contains(document.activeElement) ? document.activeElement : null;
  const open = new Set([...old.querySelectorAll("details[open]")].map((one) => one.id));
  const left = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  old.replaceChildren(...fresh.childNodes);
  for (const one of old.querySelectorAll("details")) one.open = open.has(one.id);
  [...old.querySelectorAll(".scroll")].forEach((one, index) => {
    one.scrollLeft = left[index] ?? 0;
  });
  if (focus === null) return;
  const alike = [...old.querySelectorAll("a, summary, [tabindex]")].find((one) =>
    focus.dataset.key ? one.dataset.key === focus.dataset.key
      : one.tagName === focus.tagName && one.getAttribute("href") === focus.getAttribute("href"));
  if (alike) alike.focus({ preventScroll: true });
}

async function renew() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(LONGEST) });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (paused) return;
    for (const old of document.querySelectorAll("[data-live]")) {
      const found = fresh.getElementById(old.id);
      if (found) replace(old, found);
    }
    wait = EVERY;
    show("", "live");
  } catch {
    wait = Math.min(2 * wait, LONGEST);
    show("lost", "no answer; what is shown is old");
  }
}

async function run() {
  if (!paused && !document.hidden) await renew();
  setTimeout(run, wait);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  show(paused ? "paused" : "", paused ? "paused" : "live");
  if (!paused) renew();
});
show("", "live");
setTimeout(run, wait);
