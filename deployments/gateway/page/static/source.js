// The control for a source: files that are dropped or chosen, or the name of what is there already.

import { get } from "./api.js";
import { button, el, fill, newId } from "./dom.js";
import { chosen, filesOf, newFolder, Upload } from "./uploads.js";
import { bytes, some, topOf } from "./words.js";

const LISTED = 6;

/** The control. Its `wait` resolves once all files have arrived. */
export function sourceControl(schema, { id, value, context }) {
  let upload = null;
  const input = el("input", {
    id,
    type: "text",
    ".value": value ?? "",
    placeholder: schema.examples?.[0],
    list: `${id}-known`,
    spellcheck: "false",
    autocomplete: "off",
    oninput: () => forget(),
  });
  const known = el("datalist", { id: `${id}-known` });
  const status = el("div", { class: "upload", "aria-live": "polite" });
  const files = picker({ multiple: true });
  const folder = picker({ webkitdirectory: true });
  const zone = el(
    "div",
    { class: "drop", ondragover: over, ondragleave: leave, ondrop: drop },
    el("p", { class: "drop-words" }, "Drop files or a folder here"),
    el(
      "div",
      { class: "row center" },
      button("Choose files", () => files.click(), "small"),
      button("Choose a folder", () => folder.click(), "small"),
    ),
    files,
    folder,
    status,
  );
  const nameId = newId("or");
  const node = el(
    "div",
    { class: "source" },
    zone,
    el("span", { class: "or", id: nameId }, "or name what is there already"),
    input,
    known,
  );
  context.sources?.then((names) => fill(known, names.map((name) => el("option", { value: name }))));

  function picker(props) {
    return el("input", {
      type: "file",
      hidden: true,
      "aria-label": "Files to upload",
      ...props,
      onchange: (event) => {
        begin(chosen(event.target.files));
        event.target.value = "";
      },
    });
  }

  function over(event) {
    event.preventDefault();
    zone.classList.add("over");
  }

  function leave() {
    zone.classList.remove("over");
  }

  async function drop(event) {
    event.preventDefault();
    leave();
    begin(await filesOf(event.dataTransfer));
  }

  function begin(found) {
    if (!found.length) return;
    // More files go beside those that are there already.
    const before = upload;
    const items = [...(before?.items.map(({ file, path }) => ({ file, path })) ?? [])];
    const paths = new Set(items.map(({ path }) => path));
    before?.stop();
    const fresh = found.filter(({ path }) => !paths.has(path));
    upload = new Upload(newFolder(), [...items, ...fresh]);
    upload.addEventListener("progress", show);
    const mine = upload;
    upload.done.then(() => {
      if (upload !== mine) return;
      if (!upload.errors.length) input.value = upload.source;
      input.dispatchEvent(new Event("uploaded", { bubbles: true }));
      show();
    });
    input.value = "";
    context.named?.(found[0].path.split("/")[0]);
    node.dispatchEvent(new Event("input", { bubbles: true }));
    show();
  }

  function forget() {
    if (!upload) return;
    upload.stop();
    upload = null;
    fill(status);
  }

  function show() {
    if (!upload) return;
    const { items, sent, total, errors } = upload;
    const arrived = items.filter((item) => item.source).length;
    const words =
      arrived === items.length
        ? `${some(items.length, "file")}, ${bytes(total)}: uploaded`
        : `${arrived} of ${some(items.length, "file")}, ${bytes(sent)} of ${bytes(total)}`;
    // The list is made once: a bar that is made anew has no movement.
    if (status.upload !== upload) {
      status.upload = upload;
      status.words = el("p", { class: "upload-words" });
      status.bar = el("progress", { max: 1, value: 0, "aria-label": "Upload" });
      status.rows = items.slice(0, LISTED).map((item) => {
        const bar = el("progress", { max: item.file.size || 1, value: 0, "aria-hidden": "true" });
        const state = el("span", { class: "upload-state" });
        const line = el("li", {}, el("span", { class: "upload-name" }, item.path), bar, state);
        return { item, bar, state, line };
      });
      const more = items.length - LISTED;
      fill(
        status,
        status.words,
        items.length > 1 && status.bar,
        el(
          "ul",
          { class: "uploads" },
          status.rows.map(({ line }) => line),
          more > 0 && el("li", { class: "help" }, `and ${some(more, "more file")}`),
        ),
        button("Remove", () => (forget(), (input.value = "")), "quiet small"),
      );
    }
    status.words.textContent = words;
    status.bar.value = total ? sent / total : 1;
    for (const { item, bar, state, line } of status.rows) {
      bar.value = item.file.size ? item.sent : 1;
      state.textContent = item.error && !item.source ? item.error : bytes(item.file.size);
      line.classList.toggle("wrong", Boolean(item.error && !item.source));
    }
    zone.classList.toggle("done", arrived === items.length);
    zone.classList.toggle("wrong", errors.length > 0);
  }

  return {
    node,
    focusable: input,
    read: () => (input.value === "" ? undefined : input.value),
    wait: () => upload?.done,
    problem() {
      const first = upload?.errors[0];
      return first ? `${first.path}: ${first.error}` : "";
    },
  };
}

const OFFERED = 50;

/** The names of the files in the result of the job `after`, if there is one, and of what the user
 * has uploaded: folders and single files, the newest first. */
export async function knownSources(after) {
  const [inputs, published] = await Promise.all([
    get("/inputs").catch(() => []),
    after ? get(`/jobs/${encodeURIComponent(after)}/result`).catch(() => null) : null,
  ]);
  inputs.sort((one, other) => other.modified.localeCompare(one.modified));
  const names = inputs.map(topOf);
  const files = (published?.files ?? []).slice(0, OFFERED).map(({ path }) => `job://${after}/${path}`);
  return [...files, ...[...new Set(names)].slice(0, OFFERED)];
}
