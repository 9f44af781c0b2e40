// One field of a form: a label, a help text, a control, and the line that says what is wrong.
//
// A field is {node, read, check, path, show, focus}: `read` returns its value, undefined where it
// was left out; `check` shows what is wrong in one line, and returns whether anything is.

import { button, el, fill, newId } from "./dom.js";
import { alternatives, bounds, kindOf, resolve, valuesOf, wrong } from "./schema.js";
import { sourceControl } from "./source.js";

/** A field. `value`: what it shows at first; undefined for the default. `context`: of the form. */
export function field(name, schema, { path, required, value, context }) {
  const resolved = resolve(schema, context.definitions);
  const kind = kindOf(resolved);
  if (kind === "object") return objectField(name, resolved, { path, required, value, context });
  return simpleField(name, resolved, kind, { path, required, value, context });
}

function titleOf(name, schema) {
  return schema.title ?? name.replaceAll("_", " ");
}

function simpleField(name, schema, kind, { path, required, value, context }) {
  const id = newId("field");
  const control = CONTROLS[kind](schema, {
    id,
    value: value ?? schema.default,
    required,
    context,
    label: titleOf(name, schema),
  });
  const error = el("p", { class: "error", id: `${id}-error`, role: "alert" });
  const range = kind === "number" ? bounds(schema) : "";
  // The placeholder shows the example, too.
  const described = schema.description?.replace(/\s*Example: [^]*$/, "");
  const help = [described, range && `Allowed: ${range}.`].filter(Boolean).join(" ");
  const isGroup = control.isGroup;
  const head = [titleOf(name, schema), !required && el("span", { class: "optional" }, " optional")];
  const node = el(
    isGroup ? "fieldset" : "div",
    { class: `field ${kind}`, "data-path": path },
    isGroup ? el("legend", {}, head) : el("label", { for: id }, head),
    help && el("p", { class: "help", id: `${id}-help` }, help),
    control.node,
    error,
  );
  const focusable = control.focusable ?? control.node;
  focusable.setAttribute("aria-describedby", `${help ? `${id}-help ` : ""}${id}-error`);
  if (required && !isGroup) focusable.setAttribute("aria-required", "true");
  const show = (text) => {
    error.textContent = text;
    node.classList.toggle("wrong", Boolean(text));
    if (text) focusable.setAttribute("aria-invalid", "true");
    else focusable.removeAttribute("aria-invalid");
  };
  node.addEventListener("input", () => show(""));
  return {
    node,
    path,
    read: control.read,
    wait: control.wait,
    show,
    focus: () => focusable.focus(),
    check() {
      const given = control.read();
      const text =
        control.problem?.() ||
        (given === undefined ? (required ? "this is needed" : "") : wrong(given, schema));
      show(text);
      return Boolean(text);
    },
  };
}

/** The fields of an object, and of two of which one is needed, a choice. */
export function objectFields(schema, { path, value, context }) {
  const either = alternatives(schema);
  const needed = new Set(schema.required ?? []);
  const below = (name, required) =>
    field(name, schema.properties[name], {
      path: path ? `${path}.${name}` : name,
      required,
      value: value?.[name],
      context,
    });
  const main = [];
  const optional = [];
  let choice = null;
  for (const name of Object.keys(schema.properties)) {
    if (either?.includes(name)) {
      if (!choice) {
        choice = eitherField(either, schema, below, value, context);
        main.push([either[0], choice]);
      }
    } else if (needed.has(name)) main.push([name, below(name, true)]);
    else optional.push([name, below(name, false)]);
  }
  return { main, optional };
}

function eitherField(names, schema, below, value, context) {
  const fields = names.map((name) => below(name, true));
  let chosen = value?.[names[1]] !== undefined ? 1 : 0;
  const group = newId("either");
  const place = el("div", {});
  const choose = (number) => {
    chosen = number;
    fill(place, fields[number].node);
  };
  const option = (name, number) => {
    const title = titleOf(name, resolve(schema.properties[name], context.definitions));
    const radio = el("input", {
      type: "radio",
      name: group,
      ".checked": number === chosen,
      onchange: () => choose(number),
    });
    return el("label", { class: "segment" }, radio, el("span", {}, title));
  };
  const node = el(
    "div",
    { class: "either" },
    el("div", { class: "segments", role: "radiogroup", "aria-label": "One of" }, names.map(option)),
    place,
  );
  choose(chosen);
  const current = () => fields[chosen];
  return {
    node,
    isEither: true,
    entry: () => [names[chosen], current().read()],
    get path() {
      return current().path;
    },
    read: () => current().read(),
    wait: () => current().wait?.(),
    show: (text) => current().show(text),
    focus: () => current().focus(),
    check: () => current().check(),
    find: (path) => find([current()], path),
  };
}

function objectField(name, schema, { path, required, value, context }) {
  const { main, optional } = objectFields(schema, { path, value, context });
  const fields = [...main, ...optional];
  const error = el("p", { class: "error", role: "alert" });
  const node = el(
    "fieldset",
    { class: "field object", "data-path": path },
    el("legend", {}, titleOf(name, schema)),
    schema.description && el("p", { class: "help" }, schema.description),
    fields.map(([, each]) => each.node),
    error,
  );
  const read = () => {
    const given = readAll(fields);
    return Object.keys(given).length ? given : undefined;
  };
  const show = (text) => {
    error.textContent = text;
  };
  return {
    node,
    path,
    read,
    wait: () => Promise.all(fields.map(([, each]) => each.wait?.())),
    show,
    focus: () => fields[0][1].focus(),
    find: (wanted) => find(fields.map(([, each]) => each), wanted),
    check() {
      if (!required && read() === undefined) return false;
      const isWrong = fields.map(([, each]) => each.check()).some(Boolean);
      const isEmpty = !isWrong && required && read() === undefined;
      show(isEmpty ? "fill in at least one of these" : "");
      return isWrong || isEmpty;
    },
  };
}

/** The values of fields by name, without those left out. */
export function readAll(fields) {
  const values = {};
  for (const [name, each] of fields) {
    const [key, value] = each.isEither ? each.entry() : [name, each.read()];
    if (value !== undefined) values[key] = value;
  }
  return values;
}

/** The field of a path such as `build.files`, or the innermost one that contains it. */
export function find(fields, path) {
  for (const each of fields) {
    const inner = each.find?.(path);
    if (inner) return inner;
    if (path === each.path || path.startsWith(`${each.path}.`)) return each;
  }
  return null;
}

const CONTROLS = {
  line: textControl,
  text: textControl,
  number: numberControl,
  choice: choiceControl,
  tick: tickControl,
  ticks: ticksControl,
  list: listControl,
  pairs: pairsControl,
  time: timeControl,
  source: sourceControl,
};

function exampleOf(schema) {
  const example = schema.examples?.[0];
  return typeof example === "string" || typeof example === "number" ? String(example) : undefined;
}

function textControl(schema, { id, value }) {
  const isLong = kindOf(schema) === "text";
  const node = el(isLong ? "textarea" : "input", {
    id,
    placeholder: exampleOf(schema),
    spellcheck: "false",
    autocomplete: "off",
    ...(isLong ? { rows: 4 } : { type: "text" }),
    ".value": value ?? "",
  });
  const read = () => (node.value === "" || node.value === schema.default ? undefined : node.value);
  return { node, read };
}

function numberControl(schema, { id, value, required }) {
  const node = el("input", {
    id,
    type: "number",
    inputmode: schema.type === "integer" ? "numeric" : "decimal",
    min: schema.minimum ?? schema.exclusiveMinimum,
    max: schema.maximum ?? schema.exclusiveMaximum,
    step: schema.type === "integer" ? 1 : "any",
    placeholder: exampleOf(schema),
    ".value": value ?? "",
  });
  const read = () => {
    if (node.value === "") return undefined;
    const number = Number(node.value);
    return !required && number === schema.default ? undefined : number;
  };
  return { node, read, problem: () => (node.validity.badInput ? "this is no number" : "") };
}

function choiceControl(schema, { id, value, required }) {
  const hasBlank = schema.default === undefined;
  const node = el(
    "select",
    { id },
    hasBlank && el("option", { value: "" }, required ? "Choose …" : "Left out"),
    schema.enum.map((each) =>
      el("option", { value: String(each), ".selected": each === value }, String(each)),
    ),
  );
  const read = () => {
    const chosen = schema.enum.find((each) => String(each) === node.value);
    return chosen === schema.default ? undefined : chosen;
  };
  return { node, read };
}

function tickControl(schema, { id, value }) {
  const node = el("input", { id, type: "checkbox", ".checked": value === true });
  const read = () => (node.checked === (schema.default ?? false) ? undefined : node.checked);
  return { node, read };
}

function ticksControl(schema, { id, value }) {
  const boxes = schema.items.enum.map((each) => [
    each,
    el("input", { type: "checkbox", ".checked": (value ?? []).includes(each) }),
  ]);
  const node = el(
    "div",
    { id, class: "ticks" },
    boxes.map(([each, box]) => el("label", {}, box, String(each))),
  );
  const read = () => {
    const ticked = boxes.filter(([, box]) => box.checked).map(([each]) => each);
    return ticked.length ? ticked : undefined;
  };
  return { node, read, isGroup: true };
}

function listControl(schema, { id, value, label }) {
  const rows = el("div", { class: "rows" });
  const example = schema.examples?.[0];
  const add = (text = "", after = null) => {
    const input = el("input", {
      type: "text",
      ".value": text,
      spellcheck: "false",
      autocomplete: "off",
      placeholder: Array.isArray(example) ? example[rows.children.length] : undefined,
      "aria-label": label,
      onkeydown: (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault(); // it would submit the form
        add("", row).focus();
      },
      onpaste: (event) => {
        const lines = event.clipboardData.getData("text").split("\n").filter(Boolean);
        if (lines.length < 2) return;
        event.preventDefault();
        let last = row;
        for (const line of lines) last = add(line, last).parentNode;
        if (!input.value) row.remove();
      },
    });
    const row = el("div", { class: "row" }, input, remove(() => row.remove(), label));
    if (after) after.after(row);
    else rows.append(row);
    return input;
  };
  for (const each of value ?? []) add(String(each));
  const more = button("Add", () => add().focus(), "small", { id, "aria-label": `Add to ${label}` });
  const read = () => {
    const given = [...rows.querySelectorAll("input")].map((input) => input.value).filter(Boolean);
    return given.length ? given : undefined;
  };
  return { node: el("div", {}, rows, more), focusable: more, read, isGroup: true };
}

function remove(onclick, label) {
  return button("×", onclick, "quiet close", { "aria-label": `Remove from ${label}` });
}

function pairsControl(schema, { id, value, label }) {
  const rows = el("div", { class: "rows" });
  const isLong = (valuesOf(schema).maxLength ?? 0) >= 1000;
  const add = (name = "", text = "") => {
    const key = el("input", {
      type: "text",
      ".value": name,
      placeholder: isLong ? "run.sh" : "NAME",
      spellcheck: "false",
      autocomplete: "off",
      "aria-label": `${label}: name`,
    });
    const content = el(isLong ? "textarea" : "input", {
      ...(isLong ? { rows: 4 } : { type: "text" }),
      ".value": text,
      placeholder: isLong ? "its text" : "value",
      spellcheck: "false",
      autocomplete: "off",
      "aria-label": `${label}: value`,
    });
    const row = el("div", { class: "row pair" }, key, content, remove(() => row.remove(), label));
    rows.append(row);
    return key;
  };
  const given = Array.isArray(value)
    ? value.map((each) => [each.split("=")[0], each.split("=").slice(1).join("=")])
    : Object.entries(value ?? {});
  for (const [name, text] of given) add(name, text);
  const more = button("Add", () => add().focus(), "small", { id, "aria-label": `Add to ${label}` });
  const pairs = () =>
    [...rows.children]
      .map((row) => [...row.querySelectorAll("input, textarea")].map((each) => each.value))
      .filter(([name, text]) => name || text);
  const read = () => (pairs().length ? Object.fromEntries(pairs()) : undefined);
  const problem = () => {
    const names = pairs().map(([name]) => name);
    if (names.includes("")) return "one of these has no name";
    return new Set(names).size < names.length ? "a name is there twice" : "";
  };
  return { node: el("div", {}, rows, more), focusable: more, read, problem, isGroup: true };
}

function timeControl(schema, { id, value }) {
  const local = (at) => new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  const node = el("input", { id, type: "datetime-local", ".value": value ? local(new Date(value)) : "" });
  const read = () => (node.value ? new Date(node.value).toISOString() : undefined);
  return { node, read };
}
