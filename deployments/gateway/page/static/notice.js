// Answers to what a user did, and the news that a job has ended: in the page, in its title and, where
// it is allowed, by the browser. Jobs that end, however many, leave the answers where they are.

import { button, el } from "./dom.js";
import { some, stateWords } from "./words.js";

const SHOWN = 12_000; // ms
const MOST = 4; // at once
const NAMED = 3; // ended jobs that have a line each at once; the others are counted
const region = document.getElementById("notices");
const ended = new Set(); // the lines of ended jobs
let others = null; // the line that counts those without a line of their own
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
export function say(text, kind = "") {
  show(el("span", {}, text), kind);
  const answers = region.querySelectorAll(".notice:not(.ended)");
  if (answers.length > MOST) answers[0].remove();
}

/** Show a line for a while. `forget`: called once it is gone. */
function show(content, kind, forget = () => {}) {
  const close = () => {
    if (!note.isConnected) return;
    note.remove();
    forget();
  };
  const note = el(
    "div",
    { class: `notice ${kind}` },
    content,
    button("×", close, "quiet close", { "aria-label": "Close the notice" }),
  );
  region.append(note);
  setTimeout(close, SHOWN);
}

/** Tell that a job has ended: by a line of its own, or, where many end, as one of a number. */
export function jobEnded(job) {
  const shownText = showEnded(job);
  unseen += 1;
  showTitle();
  setTimeout(seen, SHOWN);
  if (document.hidden && mayNotify()) {
    // Of several tabs, the last one replaces what the others show.
    const body = others ? "" : job.text || job.results_directory;
    const shown = new Notification(shownText, { body, tag: others ? "others" : job.job });
    shown.onclick = () => window.focus();
  }
}

/** The text that was shown. */
function showEnded({ job, task, name, outcome }) {
  if (ended.size < NAMED && !others) {
    const text = `${task} “${name}”: ${stateWords(outcome).toLowerCase()}`;
    const link = el("a", { href: `/jobs/${job}`, "data-view": true }, text);
    ended.add(job);
    show(link, `ended ${outcome}`, () => ended.delete(job));
    return text;
  }
  if (!others) {
    const line = el("a", { href: "/", "data-view": true });
    others = { line, number: 0 };
    show(line, "ended", () => (others = null));
  }
  others.number += 1;
  return (others.line.textContent = `${some(others.number, "more job")} ended`);
}

function mayNotify() {
  return "Notification" in window && Notification.permission === "granted";
}

/** Whether the browser may still be asked for leave. */
export function canAsk() {
  return "Notification" in window && window.isSecureContext && Notification.permission === "default";
}
