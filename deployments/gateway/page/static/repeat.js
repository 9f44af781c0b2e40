// The field for a schedule: with a cron line, the job is submitted again and again.

import { el } from "./dom.js";

/** The field. */
export function repeatField() {
  const id = "terms-cron";
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const line = el("input", {
    id,
    type: "text",
    placeholder: "30 2 * * *",
    maxlength: 200,
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": `${id}-help ${id}-error`,
  });
  const known = el(
    "datalist",
    { id: `${id}-zones` },
    (Intl.supportedValuesOf?.("timeZone") ?? []).map((value) => el("option", { value })),
  );
  const zone = el("input", {
    id: "terms-timezone",
    type: "text",
    list: known.id,
    maxlength: 80,
    spellcheck: "false",
    autocomplete: "off",
    ".value": own,
    "aria-describedby": "terms-timezone-error",
  });
  const error = el("p", { class: "error", id: `${id}-error`, role: "alert" });
  const wrongZone = el("p", { class: "error", id: "terms-timezone-error", role: "alert" });
  const node = el(
    "div",
    { class: "field", "data-path": "cron", oninput: () => (error.textContent = "") },
    el("label", { for: id }, "Repeat"),
    el(
      "p",
      { class: "help", id: `${id}-help` },
      "Minute, hour, day of the month, month and weekday: 30 2 * * * is half past two each night. Once, now, if left out.",
    ),
    line,
    error,
  );
  const place = el(
    "div",
    { class: "field", "data-path": "timezone", oninput: () => (wrongZone.textContent = "") },
    el("label", { for: zone.id }, "Time zone of the repetition"),
    zone,
    known,
    wrongZone,
  );
  return {
    /** Whether there is a cron line. */
    isSet: () => line.value.trim() !== "",
    /** The fields of the request. */
    entries: () => ({ cron: line.value.trim(), timezone: zone.value.trim() }),
    /** In words: that it repeats. */
    words: () => (line.value.trim() ? ` · repeated: ${line.value.trim()}` : ""),
    fields: [part("cron", node, line, error), part("timezone", place, zone, wrongZone)],
  };
}

function part(path, node, control, error) {
  return {
    path,
    node,
    show: (text) => (error.textContent = text),
    focus: () => control.focus(),
    check: () => false,
  };
}
