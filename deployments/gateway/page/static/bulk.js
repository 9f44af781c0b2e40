// What can be done with many jobs at once: counted first, then confirmed, then done by one request,
// or, where they are more than it reaches in some seconds, by some, one after the other.

import { away, pause, post } from "./api.js";
import { button, confirm, el, fill } from "./dom.js";
import { say } from "./notice.js";
import { ACTIVE, count, ENDED, HOLDABLE, MOVABLE, QUEUES, RELEASABLE, some } from "./words.js";

const NAMED = 100; // jobs by their ids in one request
const KINDS = 4; // lines of a question
const AWAY = [0, 503]; // statuses of answers while the gateway, or the server, is away
const TRIES = 20; // of a request meanwhile
const LOOK = 1000; // ms between two looks whether it is back
const VERBS = {
  cancel: {
    label: (number) => `Cancel ${number}`,
    states: [...ACTIVE, "scheduled"],
    question: (jobs) => `Cancel ${jobs}?`,
    goOn: "Cancel them",
    kind: "danger",
    doing: "Cancelling",
    done: "cancelled",
  },
  hold: {
    label: (number) => `Hold ${number}`,
    states: HOLDABLE,
    question: (jobs) => `Hold ${jobs}? They start once they are released.`,
    goOn: "Hold them",
    doing: "Holding",
    done: "held",
  },
  release: {
    label: (number) => `Release ${number}`,
    states: RELEASABLE,
    question: (jobs) => `Release ${jobs}?`,
    goOn: "Release them",
    doing: "Releasing",
    done: "released",
  },
  move: {
    label: (number) => `Move ${number}`,
    states: MOVABLE,
    question: (jobs) => `Move ${jobs} to another queue?`,
    goOn: "Move them",
    doing: "Moving",
    done: "moved",
  },
  restart: {
    label: (number) => `Run ${number} again`,
    states: ENDED,
    question: (jobs) => `Submit ${jobs} once more?`,
    goOn: "Run again",
    doing: "Submitting",
    done: "submitted once more",
  },
  delete: {
    label: (number) => `Delete ${number}`,
    states: ENDED,
    question: (jobs) => `Delete ${jobs} from the list? Published results stay.`,
    goOn: "Delete them",
    kind: "danger",
    doing: "Deleting",
    done: "deleted",
  },
};
const ALWAYS = ["cancel", "restart", "delete"]; // shown though there is no such job

/**
 * The toolbar of the selected jobs. `table`: `selected()`, the rows; `isWhole()`, whether these are
 * all that are shown; `rest()`, how many more meet the filters, null where it is not known;
 * `filters()`, as criteria of a request; `clear()` the selection; `changed(verb, isAll)`, once
 * something was done.
 */
export function bulkBar(table) {
  const node = el("div", { class: "bulk", role: "toolbar", "aria-label": "Selected jobs", hidden: true });
  let isAll = false; // also those that are not in the table
  let isBusy = false;

  /** Show what can be done. `isOther`: whether the user has just selected other jobs. */
  function show(isOther = false) {
    if (isOther) isAll = false;
    if (isBusy) return;
    const rows = table.selected();
    const rest = table.rest();
    if (!rows.length || (isAll && rest === 0)) isAll = false;
    node.hidden = rows.length === 0;
    if (node.hidden) return;
    const whole = rest === null ? "jobs like these" : some(rows.length + rest, "job");
    fill(
      node,
      el("span", { role: "status" }, `${isAll ? `All ${whole}` : some(rows.length, "job")} selected`),
      isAll
        ? button("Only those shown", () => choose(false), "small quiet")
        : table.isWhole() &&
            rest !== 0 &&
            button(`Select all ${whole}`, () => choose(true), "small quiet"),
      Object.entries(VERBS).map(([verb, { label }]) => {
        const number = isAll ? null : named(verb).length;
        const can = isAll ? states(verb).length > 0 : number > 0;
        if (!can && !ALWAYS.includes(verb)) return false;
        const style = verb === "delete" ? "small danger" : "small";
        return button(label(isAll ? "all" : count(number)), () => act(verb), style, { ".disabled": !can });
      }),
    );
  }

  function choose(value) {
    isAll = value;
    show();
    node.querySelector("button")?.focus();
  }

  /** The states of the jobs with which something can be done, among those that are shown. */
  function states(verb) {
    const wanted = table.filters().state;
    const usual = VERBS[verb].states.filter((state) => state !== "scheduled");
    return wanted ? VERBS[verb].states.filter((state) => wanted.includes(state)) : usual;
  }

  function named(verb) {
    return table.selected().filter(({ state }) => VERBS[verb].states.includes(state));
  }

  /** The requests that mean the selected jobs. */
  function requests(verb) {
    if (isAll) return [{ ...table.filters(), state: states(verb) }];
    const jobs = named(verb).map(({ job }) => job);
    const starts = Array.from({ length: Math.ceil(jobs.length / NAMED) }, (_, number) => number * NAMED);
    return starts.map((start) => ({ jobs: jobs.slice(start, start + NAMED) }));
  }

  async function act(verb) {
    const { question, goOn, kind = "primary" } = VERBS[verb];
    try {
      const asked = requests(verb).map((body) => ({ body }));
      const extra = verb === "move" ? { to: QUEUES[0] } : {};
      for (const each of asked) each.found = await post(`/jobs/${verb}`, { ...each.body, ...extra });
      const total = asked.reduce((sum, { found }) => sum + found.count, 0);
      if (!total) return say("None of these jobs is in such a state any more.", "failed");
      const kinds = asked.length === 1 ? asked[0].found.kinds : [];
      const queue = verb === "move" && queueField(kinds);
      if (!(await confirm(question(some(total, "job")), goOn, kind, kindsList(kinds), queue?.node))) return;
      if (queue) extra.to = queue.read();
      await run(verb, asked.map(({ body, found }) => ({ ...body, ...extra, confirm: found.count })), total);
    } catch (error) {
      say(error.message, "failed");
    }
  }

  /** Send the requests, and each again until it has reached all of its jobs. */
  async function run(verb, bodies, total) {
    const { doing, done } = VERBS[verb];
    const refused = [];
    const wasAll = isAll;
    let acted = 0;
    let isStopped = false;
    const bar = el("progress", { max: total, value: 0, "aria-label": `${doing} jobs` });
    const words = el("span", { role: "status" });
    const stop = button("Stop", () => ((isStopped = true), (stop.disabled = true)), "small");
    const tell = () => {
      bar.value = acted;
      words.textContent = `${doing} ${some(total, "job")}: ${count(acted)} so far`;
    };
    isBusy = true;
    node.hidden = false;
    tell();
    fill(node, words, bar, stop);
    stop.focus();
    table.clear();
    try {
      for (const body of bodies.filter(({ confirm }) => confirm)) {
        let next = "";
        while (next !== null && !isStopped) {
          const answer = await send(verb, body, next);
          acted += answer.acted;
          refused.push(...answer.refused);
          next = answer.next;
          tell();
        }
      }
    } finally {
      isBusy = isAll = false;
      show();
    }
    const good = acted - refused.length;
    if (refused.length) say(`${some(refused.length, "job")} of ${count(acted)}: ${refused[0]}`, "failed");
    else if (isStopped && acted < total) say(`Stopped: ${count(good)} of ${some(total, "job")} ${done}.`);
    else say(`${some(good, "job")} ${done}.`);
    table.changed(verb, wasAll);
  }

  return { node, show };
}

/** One request. A later one, which can be repeated, is sent again once the server is back. */
async function send(verb, body, next) {
  if (!next) return post(`/jobs/${verb}`, body);
  for (let tried = 1; ; tried += 1) {
    try {
      return await post(`/jobs/${verb}`, { ...body, next });
    } catch (error) {
      if (!AWAY.includes(error.status) || tried === TRIES) throw error;
      while (away()) await pause(LOOK);
    }
  }
}

function kindsList(kinds) {
  const more = kinds.length - KINDS;
  return (
    kinds.length > 0 &&
    el(
      "ul",
      { class: "help kinds" },
      kinds.slice(0, KINDS).map((line) => el("li", {}, line)),
      more > 0 && el("li", {}, `and ${some(more, "more kind")}`),
    )
  );
}

/** A field for another queue than that of most of the jobs. */
function queueField(kinds) {
  const now = kinds[0]?.split(" in ").pop();
  const other = QUEUES.toReversed().find((name) => name !== now);
  const select = el(
    "select",
    {},
    QUEUES.map((name) => el("option", { value: name, ".selected": name === other }, name)),
  );
  return { node: el("label", { class: "field" }, el("span", {}, "To the queue"), select), read: () => select.value };
}
