// The views to submit a job: the list of tasks, and the form of one, made from its schema.

import { afterField } from "./after.js";
import { get, post, Problem } from "./api.js";
import { button, el, fill } from "./dom.js";
import { find, objectFields, readAll } from "./fields.js";
import { setTitle } from "./notice.js";
import { repeatField } from "./repeat.js";
import { kindOf, resolve } from "./schema.js";
import { knownSources } from "./source.js";

const SHOWN = 4; // optional fields that are shown at once
const SPARE = 2; // a fold is not worth it for so few

/** All tasks, each with what it does; `after`: the job that the new one is to wait for. */
export async function tasksView(view, { after }) {
  setTitle("New job");
  const [tasks, first] = await Promise.all([get("/tasks"), after ? get(jobAddress(after)) : null]);
  const query = after ? `?${new URLSearchParams({ after })}` : "";
  fill(
    view,
    el("h1", {}, first ? `Run after ${first.job.name}` : "New job"),
    first && el("p", { class: "lead" }, "Choose what to run once that job is done. It can read the files of its result."),
    el(
      "ul",
      { class: "cards" },
      tasks.map((task) => {
        const [first, ...rest] = task.description.split("\n\n");
        return el(
          "li",
          { class: "card task" },
          el("h2", {}, el("a", { href: `/new/${task.name}${query}`, "data-view": true }, task.name)),
          el("p", {}, flat(first)),
          rest.length > 0 && el("p", { class: "help" }, flat(rest.join(" "))),
        );
      }),
    ),
    tasks.length === 0 && el("p", { class: "empty" }, "There is no task on this server yet."),
  );
}

function flat(text) {
  return text.replace(/\s+/g, " ").replaceAll("`", "");
}

function jobAddress(job) {
  return `/jobs/${encodeURIComponent(job)}`;
}

/** The form of one task; filled like the job `from`, to run after the job `after`, where given. */
export async function formView(view, { task: name, from, after }, go) {
  const [tasks, like] = await Promise.all([
    get("/tasks"),
    from ? get(`${jobAddress(from)}/request`) : null,
  ]);
  const task = tasks.find((each) => each.name === name);
  if (!task) throw new Problem(404, `there is no task ${name}`);
  setTitle(task.name);
  const definitions = task.schema.definitions ?? {};
  const payload = resolve(task.schema.properties.payload, definitions);
  const terms = termsFields(task, like, after);
  const context = { definitions, sources: knownSources(after), named: terms.suggest };
  const value = like?.payload ?? (after && fromResult(payload, definitions, `job://${after}/`));
  const { main: needed, optional } = objectFields(payload, { path: "", value, context });
  const shown = optional.length > SHOWN + SPARE ? SHOWN : optional.length;
  const folded = optional.slice(shown);
  const fields = [...needed, ...optional];
  const error = el("p", { class: "error summary", role: "alert" });
  const submit = button("Submit the job", null, "primary", { type: "submit" });
  const form = el(
    "form",
    { class: "job-form", novalidate: true, onsubmit: (event) => (event.preventDefault(), send()) },
    needed.map(([, each]) => each.node),
    optional.slice(0, shown).map(([, each]) => each.node),
    folded.length > 0 &&
      el(
        "details",
        { class: "fold", open: folded.some(([, each]) => each.read() !== undefined) },
        el("summary", {}, `${folded.length} more options`),
        folded.map(([, each]) => each.node),
      ),
    terms.node,
    error,
    el("div", { class: "row" }, submit, el("a", { class: "button", href: "/new", "data-view": true }, "Back")),
  );
  fill(
    view,
    el("h1", {}, task.name),
    el("p", { class: "lead" }, flat(task.description)),
    like && el("p", { class: "help" }, "Filled in like a job of before: change what you like."),
    form,
  );

  async function send() {
    error.textContent = "";
    const all = [...fields.map(([, each]) => each), ...terms.fields];
    submit.disabled = true;
    submit.textContent = "Uploading …";
    await Promise.all(all.map((each) => each.wait?.()));
    submit.textContent = "Submit the job";
    const wrong = all.filter((each) => each.check());
    if (wrong.length) {
      submit.disabled = false;
      return point(wrong[0]);
    }
    submit.textContent = "Submitting …";
    try {
      const body = { task: task.name, payload: readAll(fields), ...terms.read() };
      if (terms.isRepeated()) {
        await post("/schedules", body);
        return go("/schedules");
      }
      const { job } = await post("/jobs", body);
      go(`/jobs/${job}`);
    } catch (problem) {
      place(problem.message, fields, terms.fields, error);
      submit.disabled = false;
      submit.textContent = "Submit the job";
    }
  }
}

/** A payload whose first source is the result of a job. */
function fromResult(payload, definitions, source) {
  const names = Object.keys(payload.properties);
  const name = names.find((each) => kindOf(resolve(payload.properties[each], definitions)) === "source");
  return name && { [name]: source };
}

/** Show what the server says beside the field that it names. */
function place(text, fields, terms, error) {
  const quoted = text.match(/field '([^']+)'/)?.[1] ?? text.match(/^([\w.]+): /)?.[1] ?? "";
  const path = quoted.replace(/^payload\.?/, "");
  const own = terms.find((each) => each.path === quoted);
  const named = own ?? (path && find(fields.map(([, each]) => each), path));
  if (!named) {
    error.textContent = text;
    return;
  }
  const said = text
    .replace(/^.*?Failure reason: /, "")
    .replace(`${quoted}: `, "")
    .replace(/\.$/, "");
  named.show(said);
  point(named);
}

/** Bring a field into view, in an open fold. */
function point(field) {
  for (let fold = field.node.closest("details"); fold; fold = fold.parentNode.closest("details")) {
    fold.open = true;
  }
  field.focus();
}

/** Where the result goes, the queue, the name, the jobs to wait for, and the times to repeat it. */
function termsFields(task, like, after) {
  let isSuggested = !like;
  const directory = plainField("results_directory", "Results directory", {
    help: "The name under which the result is published, such as holiday or trips/2026.",
    control: el("input", {
      type: "text",
      maxlength: 128,
      ".value": like?.results_directory ?? task.name,
      oninput: () => (isSuggested = false),
    }),
    required: true,
  });
  const queue = plainField("queue", "Queue", {
    help: "The queues are served in the order high, normal, low; each is first in, first out.",
    control: el(
      "select",
      {},
      task.queues.map((name) =>
        el("option", { value: name, ".selected": name === (like?.queue ?? "normal") }, name),
      ),
    ),
  });
  const name = plainField("name", "Name", {
    help: "What the job is called in the list. One is made up, if left out.",
    control: el("input", { type: "text", maxlength: 200, }),
  });
  const others = afterField(after ? [after] : (like?.after ?? []), like?.after_ended);
  const repeat = repeatField();
  const summary = el("span", { class: "help" });
  const tell = () =>
    (summary.textContent = `${directory.read()} · queue ${queue.read()}${others.words()}${repeat.words()}`);
  const fields = [directory, queue, name, others, ...repeat.fields];
  const node = el(
    "details",
    { class: "fold", oninput: tell },
    el("summary", {}, "More: results directory, queue, name, other jobs, repeat ", summary),
    fields.map((each) => each.node),
  );
  tell();
  return {
    node,
    fields,
    isRepeated: repeat.isSet,
    read: () => ({
      results_directory: directory.read(),
      queue: queue.read(),
      name: name.read() || null,
      ...others.entries(),
      ...(repeat.isSet() ? repeat.entries() : {}),
      ...(like ? { tags: like.tags, max_duration: like.max_duration, memory: like.memory, expires: like.expires } : {}),
      ...(like ? { gpus: like.gpus, host_labels: like.host_labels } : {}),
    }),
    /** Name the results after a folder that is uploaded, unless the user has named them. */
    suggest(folder) {
      const good = folder.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N} _-]/gu, "").trim().slice(0, 60);
      if (!isSuggested || !good) return;
      directory.node.querySelector("input").value = good;
      tell();
    },
  };
}

function plainField(path, label, { help, control, required = false }) {
  const id = `terms-${path}`;
  control.id = id;
  control.setAttribute("aria-describedby", `${id}-help ${id}-error`);
  const error = el("p", { class: "error", id: `${id}-error`, role: "alert" });
  const show = (text) => (error.textContent = text);
  const read = () => control.value.trim();
  return {
    path,
    read,
    show,
    focus: () => control.focus(),
    check() {
      show(required && !read() ? "this is needed" : "");
      return required && !read();
    },
    node: el(
      "div",
      { class: "field", "data-path": path, oninput: () => show("") },
      el("label", { for: id }, label),
      el("p", { class: "help", id: `${id}-help` }, help),
      control,
      error,
    ),
  };
}
