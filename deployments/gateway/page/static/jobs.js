// The view of one's jobs: a table that stays up to date by itself.

import { connection, forEach, get } from "./api.js";
import { bulkBar } from "./bulk.js";
import { button, el, fill } from "./dom.js";
import { subscribe } from "./live.js";
import { say, setTitle } from "./notice.js";
import { row } from "./rows.js";
import { ACTIVE, count, ENDED, QUEUES, some, STATES, stateWords } from "./words.js";

const PAGE = 50;
const LONGEST = 1000; // jobs that one request may list
const TICK = 1000; // ms
const LOOK = 10_000; // ms between two looks at places in the queue
const PLACES = 12; // waiting jobs whose place is looked up
const SETTLE = 250; // ms in which changes are gathered that follow others
const NEWEST = 10; // jobs that are read to find a new one
const FEW = 3; // ended jobs that are read one by one
const FLOOD = 20; // changes of unknown jobs for which the list is read anew

/** The table. `query`: the filters, as parameters of the address. */
export async function jobsView(view, query, go, signal) {
  setTitle("Jobs");
  const rows = new Map(); // by job
  const selected = new Set();
  const changed = new Set();
  const unknown = new Map(); // the newest event of each job that has no row yet
  let loading = Promise.resolve(); // one list at a time: an older one must not replace a newer
  let next = null;
  let total = 0;
  let settling = null;
  let settled = -SETTLE; // when changes were last shown
  let isSettling = false;
  // Both at a time: the first jobs are what a person waits for.
  const first = get(`/jobs?${parameters()}`);
  first.catch(() => {}); // said by `load`
  const tasks = await get("/tasks");
  const body = el("tbody");
  const all = el("input", { type: "checkbox", "aria-label": "Select all", onchange: selectAll });
  const table = el(
    "table",
    { class: "jobs" },
    el("caption", { class: "unseen" }, "Jobs, the newest first"),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col", class: "tick" }, all),
        ["Job", "State", "Progress", "Queue", "Waited", "Ran", "Submitted"].map((name) =>
          el("th", { scope: "col", class: name.toLowerCase() }, name),
        ),
      ),
    ),
    body,
  );
  const more = button("Load more", () => load(true));
  const bulk = bulkBar({
    selected: () => [...selected].map((job) => rows.get(job)).filter(Boolean),
    isWhole,
    rest,
    filters: criteria,
    clear,
    changed: reload,
  });
  const empty = el("div", { class: "empty", hidden: true });
  const amount = el("p", { class: "help", role: "status" });
  fill(
    view,
    el(
      "div",
      { class: "row spread" },
      el("h1", {}, "Jobs"),
      el(
        "div",
        { class: "row" },
        el("a", { class: "button", href: "/schedules", "data-view": true }, "Schedules"),
        el("a", { class: "button primary", href: "/new", "data-view": true }, "New job"),
      ),
    ),
    filters(),
    bulk.node,
    el("div", { class: "table", hidden: true }, table),
    empty,
    el("div", { class: "row spread foot" }, amount, more),
  );
  await load(false, first);

  const unsubscribe = subscribe(hear);
  const ticking = setInterval(() => rows.forEach((each) => each.tick()), TICK);
  const looking = setInterval(places, LOOK);
  const back = () => load(false);
  connection.addEventListener("back", back);
  signal.addEventListener("abort", () => {
    unsubscribe();
    clearInterval(ticking);
    clearInterval(looking);
    clearTimeout(settling);
    connection.removeEventListener("back", back);
  });

  function filters() {
    const change = (name, value) => {
      const wanted = new URLSearchParams(query);
      wanted.delete(name);
      if (value) wanted.set(name, value);
      const text = wanted.toString();
      go(text ? `/?${text}` : "/");
    };
    const choice = (name, label, options) =>
      el(
        "label",
        { class: "filter" },
        el("span", {}, label),
        el(
          "select",
          { onchange: (event) => change(name, event.target.value) },
          options.map(([value, text]) =>
            el("option", { value, ".selected": value === (query.get(name) ?? "") }, text),
          ),
        ),
      );
    const text = (name, label) =>
      el(
        "label",
        { class: "filter" },
        el("span", {}, label),
        el("input", {
          type: "search",
          ".value": query.get(name) ?? "",
          onchange: (event) => change(name, event.target.value.trim()),
        }),
      );
    const states = STATES.filter((state) => state !== "crashed");
    const form = el(
      "form",
      { class: "filters", role: "search", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
      choice("state", "State", [
        ["", "All"],
        ["active", "Not ended"],
        ...states.map((state) => [state, stateWords(state)]),
      ]),
      choice("task", "Task", [["", "All"], ...tasks.map(({ name }) => [name, name])]),
      choice("queue", "Queue", [["", "All"], ...QUEUES.map((name) => [name, name])]),
      text("directory", "Results directory"),
      text("tag", "Tag"),
    );
    // On a phone they are folded, unless one is set.
    const isWide = window.matchMedia("(min-width: 44rem)").matches;
    const open = isWide || query.size > 0;
    return el("details", { class: "filter-fold", open }, el("summary", {}, "Filters"), form);
  }

  function parameters() {
    const wanted = new URLSearchParams({ limit: PAGE });
    for (const name of ["task", "queue", "directory", "tag"]) {
      if (query.get(name)) wanted.append(name, query.get(name));
    }
    const state = query.get("state");
    const states = state === "active" ? ACTIVE : state === "waiting" ? ["waiting", "crashed"] : [state];
    if (state) states.forEach((each) => wanted.append("state", each));
    return wanted;
  }

  /** Read the list anew, or the next part of it, after what is being read already. */
  function load(isMore, asked = null) {
    more.disabled = true;
    const reading = () => read(isMore, asked);
    return (loading = loading.then(reading, reading));
  }

  async function read(isMore, asked) {
    const wanted = parameters();
    if (isMore && next) wanted.set("after", next);
    // Read anew, the table stays as long as it is.
    else wanted.set("limit", Math.min(Math.max(PAGE, rows.size), LONGEST));
    const found = await (asked ?? get(`/jobs?${wanted}`)).catch((error) => (say(error.message, "failed"), null));
    more.disabled = false;
    if (!found || signal.aborted) return;
    if (!isMore) {
      rows.clear();
      body.replaceChildren();
    }
    found.jobs.forEach((job) => put(job));
    next = found.next ?? null;
    if (!isMore) total = found.total;
    shown();
    places();
  }

  function shown() {
    more.hidden = !next;
    const isFiltered = query.size > 0;
    const counted = typeof total === "number" ? Math.max(total, rows.size) : null;
    amount.textContent = rows.size
      ? counted === null
        ? `The newest ${some(rows.size, "job")}`
        : counted > rows.size
          ? `${count(rows.size)} of ${some(counted, "job")}`
          : some(rows.size, "job")
      : "";
    empty.hidden = rows.size > 0;
    table.parentNode.hidden = rows.size === 0;
    fill(
      empty,
      isFiltered
        ? [el("p", {}, "No job is like that."), el("a", { href: "/", "data-view": true }, "Show all")]
        : [
            el("p", {}, "You have no jobs yet."),
            el("a", { class: "button primary", href: "/new", "data-view": true }, "Submit the first one"),
          ],
    );
    for (const job of selected) if (!rows.has(job)) selected.delete(job);
    showBulk();
  }

  function put(job, isNew = false) {
    const known = rows.get(job.job);
    if (known) return known.set(job);
    const made = row(job, toggle);
    rows.set(job.job, made);
    made.select(selected.has(job.job)); // where the list was read anew
    if (isNew) body.prepend(made.node);
    else body.append(made.node);
  }

  function hear(kind, data) {
    if (kind === "reset") return load(false);
    if (kind !== "job") return;
    const known = rows.get(data.job);
    if (known) known.event(data);
    else unknown.set(data.job, data);
    // What an event does not have, such as how long it ran, is read once the job has ended.
    if (!known || ENDED.includes(data.outcome)) changed.add(data.job);
    settleSoon();
  }

  function settleSoon() {
    if (!changed.size || isSettling) return;
    const pause = performance.now() - settled < SETTLE ? SETTLE : 0;
    settling ??= setTimeout(async () => {
      settling = null;
      isSettling = true; // one at a time: what changes meanwhile is read next
      await settle().finally(() => (isSettling = false));
      settled = performance.now();
      if (!signal.aborted) settleSoon();
    }, pause);
  }

  async function settle() {
    const jobs = [...changed];
    changed.clear();
    const fresh = jobs.filter((job) => !rows.has(job));
    if (fresh.length > FLOOD) {
      unknown.clear();
      return load(false);
    }
    if (fresh.length) await admit(fresh);
    let ended = jobs.filter((job) => rows.has(job) && !fresh.includes(job));
    if (ended.length > FEW) {
      // One request for most of them. Those further down, and those that the filters leave out, follow.
      const found = await listed(PAGE);
      const read = new Map(found?.jobs.map((job) => [job.job, job]));
      for (const job of ended) if (read.has(job)) rows.get(job)?.set(read.get(job));
      ended = ended.filter((job) => !read.has(job));
    }
    await forEach(ended, async (job) => {
      const found = await get(`/jobs/${job}`);
      rows.get(job)?.set(found.job);
    });
    if (!signal.aborted) shown();
  }

  /** Give the new jobs that the filters admit their rows. */
  async function admit(fresh) {
    fresh.forEach((job) => unknown.delete(job)); // what they are now is about to be read
    // Without filters a new job is the newest.
    const found = await listed(query.size ? PAGE : fresh.length + NEWEST);
    const wanted = found?.jobs.filter(({ job }) => fresh.includes(job) && !rows.has(job)) ?? [];
    // The newest last, so that it is the first in the table.
    for (const job of wanted.reverse()) {
      put(job, true);
      const later = unknown.get(job.job);
      if (later) rows.get(job.job).event(later);
    }
    if (typeof total === "number") total += wanted.length;
    for (const job of fresh) {
      unknown.delete(job);
      changed.delete(job);
    }
  }

  /** The newest jobs, without their number, which takes longest; null where they cannot be read. */
  function listed(limit) {
    const wanted = parameters();
    wanted.set("limit", limit);
    wanted.set("total", false);
    return get(`/jobs?${wanted}`).catch(() => null);
  }

  async function places() {
    if (document.hidden) return;
    const live = [...rows.values()].filter((each) => each.hasPlace).slice(-PLACES);
    const running = [...rows.values()].filter((each) => each.needsProgress).slice(0, PLACES);
    await forEach([...live, ...running], async (each) => each.explain(await get(`/jobs/${each.job}`)), 2);
  }

  function toggle(job, isOn) {
    if (isOn) selected.add(job);
    else selected.delete(job);
    showBulk(true);
  }

  function selectAll() {
    selected.clear();
    for (const [job, each] of rows) {
      each.select(all.checked);
      if (all.checked) selected.add(job);
    }
    showBulk(true);
  }

  function isWhole() {
    return rows.size > 0 && selected.size === rows.size;
  }

  function showBulk(isOther) {
    all.checked = isWhole();
    all.indeterminate = selected.size > 0 && !isWhole();
    bulk.show(isOther);
  }

  function clear() {
    for (const job of selected) rows.get(job)?.select(false);
    selected.clear();
    showBulk();
  }

  /** How many jobs meet the filters and are not in the table; null where it is not known. */
  function rest() {
    if (!next) return 0;
    return typeof total === "number" ? Math.max(1, total - rows.size) : null;
  }

  /** The filters as criteria of a request for many jobs. */
  function criteria() {
    const found = {};
    for (const [name, value] of parameters()) {
      if (name === "limit") continue;
      if (name === "state" || name === "tag") found[name] = [...(found[name] ?? []), value];
      else found[name] = value;
    }
    return found;
  }

  async function reload(verb, isAll) {
    if (signal.aborted) return;
    if (isAll || ["delete", "restart"].includes(verb)) await load(false);
    else shown();
    // What had the focus is gone.
    if (document.activeElement === document.body) all.focus();
  }
}
