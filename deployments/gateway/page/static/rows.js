// One row of the table of jobs.

import { el } from "./dom.js";
import { clock, duration, ENDED, percent, stateWords } from "./words.js";

/** A row. `toggle(job, isOn)` is called when it is selected. */
export function row(first, toggle) {
  let job = { ...first };
  let read = performance.now();
  let progress = { fraction: null, text: "" };
  let place = null;
  const tick = el("input", { type: "checkbox", onchange: () => toggle(job.job, tick.checked) });
  const link = el("a", { href: `/jobs/${job.job}`, "data-view": true });
  const task = el("span", { class: "help" });
  const state = el("span", {});
  const bar = el("progress", { max: 1 });
  const words = el("span", { class: "help" });
  const cells = ["queue", "waited", "ran", "submitted"].map((name) => el("td", { class: name }));
  const [queue, waited, ran, submitted] = cells;
  const node = el(
    "tr",
    {},
    el("td", { class: "tick" }, tick),
    el("td", { class: "job" }, link, task),
    el("td", { class: "state" }, state),
    el("td", { class: "progress" }, bar, words),
    cells,
  );
  const made = {
    node,
    get job() {
      return job.job;
    },
    get state() {
      return job.state;
    },
    get hasEnded() {
      return ENDED.includes(job.state);
    },
    /** Whether it waits in a queue. */
    get hasPlace() {
      return job.state === "waiting";
    },
    /** Whether it runs, and no event has said how far it is. */
    get needsProgress() {
      return job.state === "running" && progress.fraction === null;
    },
    select(isOn) {
      tick.checked = isOn;
    },
    set(found) {
      job = { ...found };
      read = performance.now();
      show();
    },
    event(data) {
      if (data.state !== job.state) {
        const since = (performance.now() - read) / 1000;
        read = performance.now();
        // What it has come to so far stays, where the event does not begin to count anew.
        if (waits(job)) job.waited += since;
        if (runs(job)) job.ran += since;
        if (data.state === "running") job.ran = 0;
      }
      const reason = data.outcome || data.state === "blocked" ? data.text : "";
      job = { ...job, queue: data.queue, state: data.state, attempt: data.attempt, reason };
      progress = { fraction: data.fraction ?? progress.fraction, text: data.text ?? "" };
      show();
    },
    explain(found) {
      place = found.before;
      job = found.job;
      read = performance.now();
      if (found.fraction !== null) progress = { fraction: found.fraction, text: found.reasons[0] ?? "" };
      show();
    },
    tick: times,
  };

  function show() {
    link.textContent = job.name;
    task.textContent = `${job.task} · ${job.results_directory}`;
    tick.setAttribute("aria-label", `Select ${job.name}`);
    const attempt = job.attempt > 1 && !made.hasEnded ? `, attempt ${job.attempt}` : "";
    state.className = `badge ${job.state}`;
    state.textContent = stateWords(job.state) + attempt;
    const fraction = job.state === "running" ? (progress.fraction ?? 0) : null;
    bar.hidden = fraction === null;
    bar.value = fraction ?? 0;
    bar.setAttribute("aria-label", `Progress of ${job.name}`);
    words.textContent = lineOf(job, progress, place);
    words.title = words.textContent;
    queue.textContent = job.queue;
    submitted.textContent = job.due ? clock(job.due) : "";
    times();
  }

  function times() {
    const since = (performance.now() - read) / 1000;
    waited.textContent = job.state === "scheduled" ? "" : duration(job.waited + (waits(job) ? since : 0));
    const isRunning = runs(job);
    const hasRun = isRunning || made.hasEnded;
    ran.textContent = hasRun ? duration(job.ran + (isRunning ? since : 0), !isRunning) : "";
  }

  show();
  return made;
}

/** Whether the time that a job has waited goes on. */
export function waits({ state }) {
  return ["waiting", "blocked", "held", "crashed"].includes(state);
}

/** Whether the time that a job has run goes on. */
export function runs({ state }) {
  return state === "running" || state === "cancelling";
}

function lineOf(job, progress, place) {
  switch (job.state) {
    case "running":
      return [percent(progress.fraction ?? 0), progress.text].filter(Boolean).join(" · ");
    case "waiting":
      return place === null ? "" : place === 0 ? "it is next" : `${place} before it`;
    case "scheduled":
      return job.due ? `for ${clock(job.due)}` : "";
    default:
      return job.reason ?? "";
  }
}
