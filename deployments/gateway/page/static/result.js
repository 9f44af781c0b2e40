// The files of a result: a preview of texts as text, each to fetch, all as one zip.

import { button, el, fill } from "./dom.js";
import { bytes, clock, encoded, some } from "./words.js";

const PREVIEW = 64 * 1024; // bytes, as the gateway sends them
const TEXTS =
  /\.(csv|tsv|txt|dat|log|json|jsonl|ndjson|md|yaml|yml|toml|xml|html?|svg|py|js|css|sh|ini|cfg|sql)$/i;
const LISTED = 200;

/** Fill the part of a job's view. `remove(size)` is called to delete the result. */
export function filesPart(part, address, manifest, remove) {
  const { files } = manifest;
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  const rows = el("ul", { class: "files" });
  let next = 0;
  const more = button("Show more", add);

  function add() {
    const page = files.slice(next, next + LISTED);
    next += page.length;
    rows.append(...page.map((file) => row(address, file)));
    more.hidden = next >= files.length;
  }

  add();
  fill(
    part,
    el(
      "div",
      { class: "row spread" },
      el("h2", {}, `Files`),
      el(
        "a",
        { class: "button primary small", href: `/v1${address}/result.zip`, download: `${manifest.job}.zip` },
        `Download all, ${bytes(total)}`,
      ),
    ),
    el("p", { class: "help" }, some(files.length, "file"), summaryOf(manifest), expiry(manifest)),
    rows,
    more,
    el("div", { class: "row end" }, button("Delete the result", () => remove(bytes(total)), "small danger")),
  );
}

/** The task's own numbers on its work, those that are one. */
function summaryOf({ summary }) {
  const shown = Object.entries(summary)
    .filter(([, value]) => typeof value === "number")
    .slice(0, 6)
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toLocaleString("en-US")}`);
  return shown.length ? ` · ${shown.join(" · ")}` : "";
}

/** When the result is removed, where it will be. */
function expiry({ expires }) {
  return expires ? ` · kept until ${clock(expires, true)}` : "";
}

function row(address, file) {
  const link = `/v1${address}/result/${encoded(file.path)}`;
  const place = el("div", {});
  const isText = TEXTS.test(file.path) && file.bytes > 0;
  const toggle = button("Preview", show, "quiet small", {
    "aria-expanded": "false",
    "aria-label": `Preview ${file.path}`,
  });

  async function show() {
    const isOpen = toggle.getAttribute("aria-expanded") === "true";
    toggle.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) return fill(place);
    fill(place, await preview(address, file));
  }

  return el(
    "li",
    {},
    el(
      "div",
      { class: "row spread" },
      el("span", { class: "path" }, file.path),
      el("span", { class: "help" }, bytes(file.bytes)),
      isText && toggle,
      el(
        "a",
        { class: "small", href: link, download: file.path.split("/").pop(), "aria-label": `Fetch ${file.path}` },
        "Fetch",
      ),
    ),
    place,
  );
}

/** The beginning of a file, as text: whatever it is, nothing of it is shown as a document. */
async function preview(address, file) {
  try {
    const answer = await fetch(`/v1${address}/preview/${encoded(file.path)}`);
    if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
    const text = new TextDecoder().decode(await answer.arrayBuffer());
    const rest = file.bytes > PREVIEW ? `\n… and ${bytes(file.bytes - PREVIEW)} more` : "";
    return el("pre", { class: "preview", tabindex: "0", "aria-label": `Preview of ${file.path}` }, text + rest);
  } catch (error) {
    return el("p", { class: "error" }, `it cannot be shown here: ${error.message}`);
  }
}
