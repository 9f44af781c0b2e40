// The log of a job, which goes on while it runs.

import { el } from "./dom.js";
import { clock } from "./words.js";

const MOST = 2000; // lines in the page
const NEAR = 40; // px from the end at which the log follows

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
    source = new EventSource(`/v1${address}/logs?tail=${MOST}&follow=true`);
    source.addEventListener("line", (event) => add(JSON.parse(event.data)));
    // It goes on after the last line, where it broke off; that of a job that has ended is complete.
    source.addEventListener("error", () => hasEnded() && source?.close());
  }

  // A browser has six connections to a host: a tab that nobody sees gives this one back.
  function turn() {
    if (!document.hidden) return begin();
    source?.close();
    source = null;
  }

  function add(line) {
    const isAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < NEAR;
    empty.hidden = true;
    lines.hidden = false;
    lines.append(shown(line));
    while (lines.children.length > MOST) lines.firstChild.remove();
    if (isAtEnd) lines.scrollTop = lines.scrollHeight;
  }

  begin();
  document.addEventListener("visibilitychange", turn);
  signal.addEventListener("abort", () => {
    document.removeEventListener("visibilitychange", turn);
    source?.close();
  });
  return { node };
}

function shown({ at, attempt, level, message }) {
  return el(
    "p",
    { class: `entry ${level.toLowerCase()}` },
    el("time", { datetime: at, title: `attempt ${attempt}` }, clock(at, true)),
    el("span", {}, message),
  );
}
