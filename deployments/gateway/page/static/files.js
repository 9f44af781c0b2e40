// The view of what the user has uploaded.

import { del, get } from "./api.js";
import { button, confirm, el, fill } from "./dom.js";
import { say, setTitle } from "./notice.js";
import { bytes, clock, encoded, some, topOf } from "./words.js";

/** The view: a row for each folder or file at the top. */
export async function filesView(view) {
  setTitle("Files");
  const inputs = await get("/inputs");
  const groups = new Map();
  for (const { path, source, bytes: size, modified } of inputs) {
    const [top] = path.split("/");
    const known = groups.get(top) ?? { top, files: 0, size: 0, modified, isFolder: path.includes("/"), source: topOf({ source, path }) };
    known.files += 1;
    known.size += size;
    if (modified > known.modified) known.modified = modified;
    groups.set(top, known);
  }
  const list = [...groups.values()].sort((one, other) => other.modified.localeCompare(one.modified));
  const total = list.reduce((sum, each) => sum + each.size, 0);
  fill(
    view,
    el("h1", {}, "Files"),
    el(
      "p",
      { class: "lead" },
      "What you have uploaded for your jobs. A job's form uploads more; here is what it may use again.",
    ),
    list.length === 0 && el("p", { class: "empty" }, "You have uploaded nothing yet."),
    list.length > 0 && el("p", { class: "help" }, `${some(inputs.length, "file")}, ${bytes(total)}`),
    el(
      "ul",
      { class: "files panel", hidden: list.length === 0 },
      list.map((each) => {
        const { source } = each;
        const item = el(
          "li",
          {},
          el(
            "div",
            { class: "row spread" },
            el("span", { class: "path" }, source),
            el("span", { class: "help" }, `${some(each.files, "file")} · ${bytes(each.size)} · ${clock(each.modified)}`),
            button("Delete", () => remove(each, source), "quiet small danger", { "aria-label": `Delete ${source}` }),
          ),
        );
        return item;
      }),
    ),
  );

  async function remove({ top, files }, source) {
    if (!(await confirm(`Delete ${source}, ${some(files, "file")}?`, "Delete", "danger"))) return;
    await del(`/inputs/${encoded(top)}`).catch((error) => say(error.message, "failed"));
    await filesView(view);
  }
}
