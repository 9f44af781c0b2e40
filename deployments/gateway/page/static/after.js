// The field for the jobs that a job waits for: picked from one's newest jobs, or named by id or key.

import { get } from "./api.js";
import { button, el, fill } from "./dom.js";
import { stateWords } from "./words.js";

const NEWEST = 50; // jobs that are offered
const BEGIN = 8; // characters of an id that are shown

/** The field. `value`: ids of jobs; `isEnough`: whether it is enough that they end. */
export function afterField(value = [], isEnough = false) {
  const id = "terms-after";
  const names = new Map(); // of jobs, by id
  const chosen = new Set(value);
  const list = el("ul", { class: "chosen", "aria-label": "Jobs to wait for" });
  const known = el("datalist", { id: `${id}-known` });
  const input = el("input", {
    id,
    type: "text",
    list: known.id,
    placeholder: "pick a job, or paste an id",
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": `${id}-help ${id}-error`,
    oninput: () => names.has(input.value.trim()) && take(),
    onchange: () => take(),
    onkeydown: (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // it would submit the form
      take();
    },
  });
  const ended = el("input", { type: "checkbox", id: `${id}-ended`, ".checked": isEnough });
  const error = el("p", { class: "error", id: `${id}-error`, role: "alert" });
  const node = el(
    "div",
    { class: "field", "data-path": "after", oninput: () => (error.textContent = "") },
    el("label", { for: id }, "After other jobs"),
    el("p", { class: "help", id: `${id}-help` }, "It starts once all of these are done. If one fails, it does not run."),
    list,
    input,
    known,
    el("label", { class: "row", for: ended.id }, ended, "Start also after jobs that have failed or were cancelled"),
    error,
  );

  function take() {
    const ids = input.value.split(/[\s,]+/).filter(Boolean);
    input.value = "";
    ids.forEach((each) => chosen.add(each));
    show();
  }

  function show() {
    ended.parentNode.hidden = chosen.size === 0;
    fill(
      list,
      [...chosen].map((job) =>
        el(
          "li",
          {},
          el("span", {}, names.get(job) ?? job),
          button("×", () => (chosen.delete(job), show(), input.focus(), changed()), "quiet close", {
            "aria-label": `Do not wait for ${names.get(job) ?? job}`,
          }),
        ),
      ),
    );
  }

  function changed() {
    node.dispatchEvent(new Event("input", { bubbles: true }));
  }

  async function name() {
    const found = await get(`/jobs?limit=${NEWEST}`).catch(() => ({ jobs: [] }));
    const missing = value.filter((id) => !found.jobs.some(({ job }) => job === id));
    const others = await Promise.all(missing.map((id) => get(`/jobs/${encodeURIComponent(id)}`).catch(() => null)));
    for (const each of [...found.jobs, ...others.filter(Boolean).map(({ job }) => job)]) {
      names.set(each.job, `${each.name} · ${each.task} · ${stateWords(each.state)} · ${each.job.slice(0, BEGIN)}`);
    }
    fill(known, found.jobs.map(({ job }) => el("option", { value: job }, names.get(job))));
    show();
  }

  show();
  name();
  return {
    node,
    path: "after",
    /** The fields of the request. */
    entries: () => (take(), chosen.size ? { after: [...chosen], after_ended: ended.checked } : {}),
    /** In words: how many. */
    words: () => (chosen.size ? ` · after ${chosen.size === 1 ? "1 job" : `${chosen.size} jobs`}` : ""),
    show: (text) => (error.textContent = text),
    focus: () => input.focus(),
    check: () => false,
  };
}
