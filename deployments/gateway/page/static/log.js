// The log of a job, which goes on while it runs.

import { get, pause } from "./api.js";
import { el } from "./dom.js";
import { clock } from "./words.js";

const MOST = 2000; // lines in the page
const NEAR = 40; // px from the end at which the log follows
const LOOK = 5000; // ms between two looks, where it cannot be followed

/** The part of a job's view. `hasEnded()`: whether the job has. */
export function logPart(address, signal, hasEnded) {
  const lines = el("div", { class: "log", role: "log", tabindex: "0", "aria-label": "Log" });
  const empty = el("p", { class: "help" }, "Nothing has been logged yet.");
  const node = el("section", { class: "panel", "aria-label": "Log" }, el("h2", {}, "Log"), empty, lines);
  let source = null;
  lines.hidden = true;

  function begin() {
    if (source || signal.aborted || document.hidden) return;
    lines.replaceChildren();
    const mine = new EventSource(`/v1${address}/logs?tail=${MOST}&follow=true`);
    source = mine;
    mine.addEventListener("line", (event) => add(JSON.parse(event.data)));
    mine.addEventListener("error", () => {
      // It goes on after the last line, where it broke off; that of an ended job is complete.
      if (mine.readyState === EventSource.CLOSED) look(mine);
      else if (hasEnded()) mine.close();
    });
  }

  /** Read the log every few seconds: where too many are followed, say. */
  async function look(mine) {
    let shown = 0;
    while (source === mine) {
      const found = await get(`${address}/logs?tail=${MOST}`).catch(() => []);
      if (source !== mine || signal.aborted) return;
      if (found.length !== shown) lines.replaceChildren();
      if (found.length !== shown) found.slice(-MOST).forEach(add);
      shown = found.length;
      if (hasEnded()) return;
      await pause(LOOK);
    }
  }

  function stop() {
    source?.close();
    source = null;
  }

  // A browser has six connections to a host: a tab that nobody sees gives this one back.
  function turn() {
    if (document.hidden) stop();
    else begin();
  }

  function add(line) {
    const isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < NEAR;
    empty.hidden = true;
    lines.hidden = false;
    lines.append(shownLine(line));
    while (lines.children.length > MOST) lines.firstChild.remove();
    if (isAtEnd) lines.scrollTop = lines.scrollHeight;
  }

  begin();
  document.addEventListener("visibilitychange", turn);
  signal.addEventListener("abort", () => {
    document.removeEventListener("visibilitychange", turn);
    stop();
  });
  return { node };
}

function shownLine({ at, attempt, level, message }) {
  return el(
    "p",
    { class: `entry ${level.toLowerCase()}` },
    el("time", { datetime: at, title: `attempt ${attempt}` }, clock(at, true)),
    el("span", {}, message),
  );
}
