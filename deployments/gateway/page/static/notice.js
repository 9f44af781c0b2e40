// Tells that a job has ended: in the page, in its title and, where it is allowed, by the browser.

import { button, el } from "./dom.js";
import { stateWords } from "./words.js";

const SHOWN = 12_000; // ms
const MOST = 4; // at once
const region = document.getElementById("notices");
let unseen = 0;
let title = "Prefecture";

/** Set the title of the page. */
export function setTitle(text) {
  title = text ? `${text} · Prefecture` : "Prefecture";
  showTitle();
}

function showTitle() {
  document.title = unseen ? `(${unseen}) ${title}` : title;
}

function seen() {
  if (document.hidden) return;
  unseen = 0;
  showTitle();
}

document.addEventListener("visibilitychange", seen);

/** Show a line in the page. `kind`: completed, failed, cancelled or nothing. */
export function say(text, kind = "", link = null) {
  const note = el(
    "div",
    { class: `notice ${kind}` },
    link ? el("a", { href: link, "data-view": true }, text) : el("span", {}, text),
    button("×", () => note.remove(), "quiet close", { "aria-label": "Close the notice" }),
  );
  region.append(note);
  while (region.children.length > MOST) region.firstChild.remove();
  setTimeout(() => note.remove(), SHOWN);
}

/** Tell that a job has ended. */
export function jobEnded(job) {
  const text = `${job.task} “${job.name}”: ${stateWords(job.outcome).toLowerCase()}`;
  say(text, job.outcome, `/jobs/${job.job}`);
  unseen += 1;
  showTitle();
  setTimeout(seen, SHOWN);
  if (document.hidden && mayNotify()) {
    // Of several tabs, the last one replaces what the others show.
    const shown = new Notification(text, { body: job.text || job.results_directory, tag: job.job });
    shown.onclick = () => window.focus();
  }
}

function mayNotify() {
  return "Notification" in window && Notification.permission === "granted";
}

/** Whether the browser may still be asked for leave. */
export function canAsk() {
  return "Notification" in window && window.isSecureContext && Notification.permission === "default";
}
