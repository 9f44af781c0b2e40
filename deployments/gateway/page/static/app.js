// The frame of the page: who is signed in, which view is shown, and whether the server answers.

import { away, connection, del, get, pause, Problem } from "./api.js";
import { el, fill } from "./dom.js";
import { filesView } from "./files.js";
import { jobView } from "./job.js";
import { jobsView } from "./jobs.js";
import { start, stop, subscribe } from "./live.js";
import { formView, tasksView } from "./new.js";
import { canAsk, jobEnded, say } from "./notice.js";
import { overviewView } from "./overview.js";
import { schedulesView } from "./schedules.js";
import { signInView } from "./signin.js";

const main = document.getElementById("main");
const bar = document.querySelector(".bar");
const notify = document.getElementById("notify");
const banner = document.getElementById("away");
let me = null;
let shown = new AbortController();
let hasFailed = false; // the view that is to be shown, for want of a server

const SLOW = 300; // ms after which a view that is still empty says that it is loading
const VIEWS = [
  [/^\/$/, (view, _, query, signal) => jobsView(view, query, go, signal)],
  [/^\/new$/, (view, _, query) => tasksView(view, { after: query.get("after") })],
  [
    /^\/new\/([^/]+)$/,
    (view, [task], query) => formView(view, { task, from: query.get("from"), after: query.get("after") }, go),
  ],
  [/^\/jobs\/([^/]+)$/, (view, [job], _, signal) => jobView(view, job, go, signal)],
  [/^\/files$/, (view) => filesView(view)],
  [/^\/schedules$/, (view) => schedulesView(view)],
  [/^\/overview$/, (view, _, __, signal) => overviewView(view, signal)],
];

/** Show the view of an address of ours. */
function go(address) {
  history.pushState(null, "", address);
  show();
  window.scrollTo(0, 0);
}

async function show() {
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  hasFailed = false;
  const path = location.pathname;
  mark(path);
  if (path === "/sign-in" || !me) return signIn();
  const found = VIEWS.map(([pattern, view]) => [path.match(pattern), view]).find(([match]) => match);
  // Each has an element of its own: one that is left before it is ready writes into nothing.
  const view = el("div", { class: "view" });
  const showing = found
    ? found[1](view, found[0].slice(1).map(decodeURIComponent), new URLSearchParams(location.search), signal)
    : Promise.reject(new Problem(404, "there is no such page"));
  const failing = showing.catch((error) => signal.aborted || fail(view, error));
  await Promise.race([failing, pause(SLOW)]);
  if (signal.aborted) return;
  if (!view.firstChild) fill(view, el("p", { class: "loading" }, "Loading …"));
  fill(main, view);
  main.focus({ preventScroll: true });
}

function fail(view, error) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 401) return;
  hasFailed = away();
  fill(
    view,
    el("h1", {}, error.status === 404 ? "Not here" : "This did not work"),
    el("p", { class: "lead" }, error.message),
    el("a", { class: "button", href: "/", "data-view": true }, "Show my jobs"),
  );
}

function mark(path) {
  for (const link of bar.querySelectorAll("nav a")) {
    const at = link.getAttribute("href");
    const isHere = at === "/" ? path === "/" || /^\/(jobs|schedules)\b/.test(path) : path.startsWith(at);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function signIn(said = "") {
  const wanted = location.pathname === "/sign-in" ? "/" : location.pathname + location.search;
  const view = el("div", { class: "view" });
  fill(main, view);
  signInView(
    view,
    (found) => {
      enter(found);
      history.replaceState(null, "", wanted);
      show();
    },
    said,
  );
}

function enter(found) {
  me = found;
  bar.hidden = false;
  document.getElementById("user").textContent = me.user;
  notify.hidden = !canAsk();
  start(me.user);
}

function leave(said = "") {
  me = null;
  bar.hidden = true;
  stop();
  shown.abort();
  signIn(said);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-view]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

window.addEventListener("popstate", show);

// A file that misses its field must not take the place of the page.
for (const kind of ["dragover", "drop"]) {
  window.addEventListener(kind, (event) => event.preventDefault());
}

document.getElementById("sign-out").addEventListener("click", async () => {
  try {
    await del("/session");
    leave();
  } catch (error) {
    say(error.message, "failed");
  }
});

notify.addEventListener("click", async () => {
  const answer = await Notification.requestPermission();
  notify.hidden = true;
  say(answer === "granted" ? "This browser tells you when a job has ended." : "Notices stay in this page.");
});

// What the gateway says is for programs where there is no cookie any more: another tab has signed out.
connection.addEventListener("signed-out", () => me && leave("the session is over: sign in again"));

connection.addEventListener("away", () => {
  fill(banner, el("p", {}, "The server does not answer. This page tries again by itself."));
  banner.classList.add("is-away");
});

connection.addEventListener("back", () => {
  fill(banner);
  banner.classList.remove("is-away");
  if (hasFailed) show();
});

const told = new Set();
subscribe((kind, data) => {
  if (kind !== "job" || !data.outcome || told.has(data.job)) return;
  told.add(data.job);
  if (data.tags.includes(`user:${me?.user}`)) jobEnded(data);
});

async function begin() {
  if (location.pathname === "/sign-in") return show();
  try {
    enter(await get("/me"));
  } catch (error) {
    if (away()) {
      connection.addEventListener("back", begin, { once: true });
      return;
    }
    if (error.status !== 401) throw error;
  }
  await show();
}

begin();
