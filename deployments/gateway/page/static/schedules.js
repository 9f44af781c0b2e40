// The view of the user's schedules.

import { del, get, post } from "./api.js";
import { button, confirm, el, fill } from "./dom.js";
import { say, setTitle } from "./notice.js";
import { clock } from "./words.js";

/** The view: a row for each schedule. */
export async function schedulesView(view) {
  setTitle("Schedules");
  const schedules = await get("/schedules");
  fill(
    view,
    el(
      "div",
      { class: "row spread" },
      el("h1", {}, "Schedules"),
      el("a", { class: "button", href: "/", "data-view": true }, "Jobs"),
    ),
    el("p", { class: "lead" }, "Jobs that are submitted again and again. A job's form makes one: More, Repeat."),
    schedules.length === 0 && el("p", { class: "empty" }, "You have no schedule yet."),
    el("ul", { class: "files schedules panel", hidden: schedules.length === 0 }, schedules.map(item)),
  );

  function item(found) {
    const { name, task, results_directory: directory, cron, timezone, active, next, last_error: failed } = found;
    const jobs = `/?${new URLSearchParams({ tag: `schedule:${name}` })}`;
    const verb = active ? "Pause" : "Resume";
    return el(
      "li",
      {},
      el(
        "div",
        { class: "row spread" },
        el("a", { class: "path", href: jobs, "data-view": true }, name),
        el("span", { class: "help" }, active ? (next.length ? `next ${clock(next[0])}` : "no further time") : "paused"),
        button(verb, () => set(found), "quiet small", { "aria-label": `${verb} ${name}` }),
        button("Remove", () => remove(found), "quiet small danger", { "aria-label": `Remove ${name}` }),
      ),
      el("p", { class: "help" }, `${task} · ${directory} · ${cron} · ${timezone}`),
      failed && el("p", { class: "error" }, `${clock(failed.due)}: ${failed.reason}`),
    );
  }

  async function set({ schedule, active }) {
    await act(() => post(`/schedules/${schedule}/${active ? "pause" : "resume"}`));
  }

  async function remove({ schedule, name }) {
    if (!(await confirm(`Remove the schedule ${name}? Its jobs stay.`, "Remove", "danger"))) return;
    await act(() => del(`/schedules/${schedule}`));
  }

  async function act(work) {
    await work().catch((error) => say(error.message, "failed"));
    await schedulesView(view);
  }
}
