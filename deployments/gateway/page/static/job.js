// The view of one job: its state and story, its log, its pictures and files.

import { connection, del, get, post, Problem } from "./api.js";
import { button, confirm, el, fill } from "./dom.js";
import { filesPart } from "./result.js";
import { gallery } from "./gallery.js";
import { subscribe } from "./live.js";
import { logPart } from "./log.js";
import { say, setTitle } from "./notice.js";
import { runs, waits } from "./rows.js";
import { clock, duration, ENDED, HOLDABLE, MOVABLE, percent, QUEUES, RELEASABLE, stateWords } from "./words.js";

const TICK = 1000; // ms
const LOOK = 10_000; // ms between two looks at why it waits

/** The view. */
export async function jobView(view, id, go, signal) {
  const address = `/jobs/${encodeURIComponent(id)}`;
  let found = await get(address);
  const asked = await get(`${address}/request`);
  let read = performance.now();
  let progress = { fraction: found.fraction, text: "" };
  const badge = el("span", {});
  const bar = el("progress", { max: 1, "aria-label": "Progress" });
  const line = el("p", { class: "now-line", "aria-live": "polite" });
  const actions = el("div", { class: "row actions" });
  const facts = el("dl", { class: "facts" });
  const story = el("ol", { class: "story" });
  const pictures = el("section", { class: "panel", "aria-label": "Pictures", hidden: true });
  const files = el("section", { class: "panel", "aria-label": "Files", hidden: true });
  const log = logPart(address, signal, () => ENDED.includes(found.job.state));
  let hasResult = false;

  fill(
    view,
    el("p", { class: "crumbs" }, el("a", { href: "/", "data-view": true }, "Jobs"), " / ", found.job.task),
    el("div", { class: "row spread head" }, el("h1", {}, found.job.name, " ", badge), actions),
    el("div", { class: "now" }, bar, line),
    el(
      "div",
      { class: "columns" },
      el("div", { class: "wide" }, pictures, files, log.node),
      el(
        "aside",
        { class: "side" },
        el("section", { class: "panel", "aria-label": "Facts" }, el("h2", {}, "Job"), facts),
        el("section", { class: "panel", "aria-label": "Story" }, el("h2", {}, "Story"), story),
        requestPart(asked),
      ),
    ),
  );
  show();
  await Promise.all([tell(), result()]);

  const unsubscribe = subscribe(hear);
  const ticking = setInterval(times, TICK);
  const looking = setInterval(() => document.hidden || ENDED.includes(found.job.state) || look(), LOOK);
  const back = () => look();
  connection.addEventListener("back", back);
  signal.addEventListener("abort", () => {
    unsubscribe();
    clearInterval(ticking);
    clearInterval(looking);
    connection.removeEventListener("back", back);
  });

  function hear(kind, data) {
    if (kind === "reset") return look();
    if (kind !== "job" || data.job !== found.job.job) return;
    const isSame = data.state === found.job.state && data.attempt === found.job.attempt;
    progress = { fraction: data.fraction ?? progress.fraction, text: data.text ?? "" };
    if (!isSame) {
      found = { ...found, reasons: [], estimate: null };
      const since = (performance.now() - read) / 1000;
      read = performance.now();
      if (waits(found.job)) found.job.waited += since;
      if (runs(found.job)) found.job.ran += since;
      if (data.state === "running") found.job.ran = 0;
    }
    found.job = { ...found.job, state: data.state, attempt: data.attempt };
    show();
    if (!isSame) look();
  }

  /** Read everything anew that may have changed. */
  async function look() {
    try {
      found = await get(address);
    } catch (error) {
      if (error.status === 404) say("This job has been deleted.", "failed");
      return;
    }
    read = performance.now();
    if (found.fraction !== null && progress.fraction === null) progress.fraction = found.fraction;
    if (signal.aborted) return;
    show();
    await Promise.all([tell(), result()]);
  }

  function show() {
    const { job, reasons, estimate } = found;
    setTitle(job.name);
    badge.className = `badge ${job.state}`;
    badge.textContent = stateWords(job.state);
    const isRunning = job.state === "running";
    const hasEnded = ENDED.includes(job.state);
    bar.hidden = !["running", "completed"].includes(job.state);
    bar.value = job.state === "completed" ? 1 : (progress.fraction ?? 0);
    bar.classList.toggle("done", job.state === "completed");
    const words = isRunning
      ? [percent(progress.fraction ?? 0), progress.text || reasons[0], estimate && estimateWords(estimate)]
      : [...reasons, estimate && estimateWords(estimate)];
    line.textContent = words.filter(Boolean).join(" · ");
    line.hidden = !line.textContent;
    fill(
      actions,
      HOLDABLE.includes(job.state) && button("Hold", () => change("hold")),
      RELEASABLE.includes(job.state) && button("Release", () => change("release"), "primary"),
      MOVABLE.includes(job.state) && queues(job.queue),
      !hasEnded && job.state !== "cancelling" && button("Cancel", cancel, "danger"),
      hasEnded && button("Run again", again, "primary"),
      el(
        "a",
        { class: "button", href: `/new/${job.task}?from=${job.job}`, "data-view": true },
        "Copy and change",
      ),
      ["failed", "cancelled"].includes(job.state) ||
        el(
          "a",
          { class: "button", href: `/new?after=${job.job}`, "data-view": true },
          hasEnded ? "Use the result" : "Then run …",
        ),
      hasEnded && button("Delete", remove, "danger"),
    );
    fill(
      facts,
      fact("Submitted", job.due ? clock(job.due, true) : "", "submitted"),
      fact("Waited", "", "waited"),
      fact("Ran", "", "ran"),
      fact("Queue", job.queue),
      fact("Results directory", job.results_directory),
      fact("Attempt", String(job.attempt)),
      fact("Id", job.job, "id"),
    );
    times();
  }

  function times() {
    const { job } = found;
    const since = (performance.now() - read) / 1000;
    const isRunning = runs(job);
    facts.querySelector(".waited").textContent = duration(job.waited + (waits(job) ? since : 0));
    facts.querySelector(".ran").textContent =
      job.started || isRunning ? duration(job.ran + (isRunning ? since : 0), !isRunning) : "–";
  }

  async function tell() {
    const attempts = await get(`${address}/attempts`).catch(() => []);
    fill(
      story,
      attempts.flatMap((attempt) => [
        attempts.length > 1 &&
          el("li", { class: "attempt" }, `Attempt ${attempt.attempt}, queue ${attempt.queue}`),
        // A hold claims the job for a moment, as a worker does.
        ...attempt.changes.filter(({ state, reason }) => state !== "Pending" || !reason).map(({ at, state, reason }) =>
          el(
            "li",
            { class: state.toLowerCase() },
            el("time", { datetime: at }, clock(at, true)),
            el("span", {}, STEPS[state] ?? state),
            reason && el("p", { class: "help" }, reason),
          ),
        ),
      ]),
    );
  }

  async function result() {
    if (hasResult || found.job.state !== "completed") return;
    hasResult = true;
    try {
      const manifest = await get(`${address}/result`);
      const pairs = await get(`${address}/pictures`).catch(() => []);
      if (signal.aborted) return;
      if (pairs.length) gallery(pictures, address, pairs);
      filesPart(files, address, manifest, removeResult);
    } catch (error) {
      hasResult = !(error instanceof Problem) || [409, 410].includes(error.status);
      fill(files, el("h2", { tabindex: -1 }, "Files"), el("p", { class: "error" }, error.message));
    }
    files.hidden = false;
  }

  /** Delete the files, and show that they are gone. */
  async function removeResult(size) {
    const question = `Delete the result of this job, ${size}? Nobody can read its files any more. The job stays.`;
    if (!(await confirm(question, "Delete the result", "danger"))) return;
    await attempt(async () => {
      say((await del(`${address}/result`)).message);
      fill(pictures);
      pictures.hidden = true;
      hasResult = false;
      await result();
      files.querySelector("h2").focus();
    });
  }

  /** A list of the queues; another one moves the job. */
  function queues(own) {
    const move = (event) => change("move", { queue: event.target.value });
    return el(
      "select",
      { "aria-label": "Queue", onchange: move },
      QUEUES.map((name) => el("option", { value: name, ".selected": name === own }, `Queue ${name}`)),
    );
  }

  async function change(what, body) {
    await attempt(async () => say((await post(`${address}/${what}`, body)).message));
    await look();
  }

  async function cancel() {
    if (!(await confirm("Cancel this job?", "Cancel it", "danger"))) return;
    await attempt(async () => say((await post(`${address}/cancel`)).message));
    await look();
  }

  async function again() {
    await attempt(async () => go(`/jobs/${(await post(`${address}/restart`)).job}`));
  }

  async function remove() {
    if (!(await confirm("Delete this job? What it has published stays.", "Delete it", "danger"))) return;
    await attempt(async () => {
      await del(address);
      go("/");
    });
  }
}

const STEPS = {
  Scheduled: "Submitted",
  Pending: "Taken by a worker",
  Running: "Started",
  Completed: "Done",
  Cancelling: "To be cancelled",
  AwaitingRetry: "Waits for the next attempt",
  Waiting: "Submitted, after other jobs",
  Resuming: "In its queue",
  Held: "Held",
  Moved: "Moved to another queue",
};

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say(error.message, "failed");
  }
}

function fact(name, value, kind = "") {
  return [el("dt", {}, name), el("dd", { class: kind }, value)];
}

/** When it starts or ends, as far as can be told. */
function estimateWords({ event, seconds }) {
  return `${event} in about ${duration(seconds)}`;
}

/** What the job was asked to do. */
function requestPart(asked) {
  return el(
    "section",
    { class: "panel", "aria-label": "Request" },
    el("h2", {}, "Asked for"),
    el(
      "dl",
      { class: "facts" },
      entries(asked.payload).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
      asked.tags.filter((tag) => tag).length > 0 && fact("tags", asked.tags.join(", ")),
      asked.max_duration && fact("at most", duration(asked.max_duration)),
      asked.memory && fact("memory", asked.memory),
      asked.expires && fact("result kept for", duration(asked.expires)),
      asked.after.length > 0 && [
        el("dt", {}, asked.after_ended ? "after the end of" : "after"),
        el(
          "dd",
          {},
          asked.after.map((job) =>
            el("a", { class: "id", href: `/jobs/${job}`, "data-view": true }, `${job.slice(0, 8)} `),
          ),
        ),
      ],
    ),
  );
}

function entries(value, path = "") {
  return Object.entries(value).flatMap(([name, inner]) => {
    const here = path ? `${path}.${name}` : name;
    if (inner && typeof inner === "object" && !Array.isArray(inner)) return entries(inner, here);
    return [[here.replaceAll("_", " "), Array.isArray(inner) ? inner.join(" ") : String(inner)]];
  });
}
