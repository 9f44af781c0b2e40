// The page of the API: every route of /openapi.json, with its fields and a request to copy.

import { el, fill } from "./dom.js";

const main = document.getElementById("main");
const GROUPS = { me: "Tokens and sessions", session: "Tokens and sessions", jobs: "Jobs", inputs: "Files of one's own" };
const REST = "Tasks, events and the platform";

let definitions = {};

async function begin() {
  const view = el("div", { class: "view" });
  fill(main, view);
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    show(view, await answer.json());
  } catch (error) {
    fill(view, el("h1", {}, "API"), el("p", { class: "error" }, `The gateway does not answer: ${error.message}`));
  }
}

function show(view, api) {
  definitions = api.components?.schemas ?? {};
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const name = GROUPS[path.split("/")[2]] ?? REST;
      groups.set(name, [...(groups.get(name) ?? []), routePart(method, path, route)]);
    }
  }
  const search = el("input", { type: "search", id: "search", placeholder: "cancel, inputs, events …" });
  const sections = [...groups].map(([name, routes]) =>
    el("section", { class: "routes", "aria-label": name }, el("h2", {}, name), routes),
  );
  search.addEventListener("input", () => filter(sections, search.value));
  fill(
    view,
    el("h1", {}, "API"),
    el(
      "p",
      { class: "lead" },
      "All but files is JSON. Send your token with each request; ",
      el("a", { href: "/openapi.json" }, "openapi.json"),
      " has the same for programs.",
    ),
    el("pre", { tabindex: "0" }, 'Authorization: Bearer prefecture_…'),
    el("div", { class: "field" }, el("label", { for: "search" }, "Find a route"), search),
    sections,
  );
  if (location.hash) open();
  window.addEventListener("hashchange", open);
}

/** Open the route that the address names. */
function open() {
  const route = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!route) return;
  route.open = true;
  route.scrollIntoView();
}

function filter(sections, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of sections) {
    const routes = [...section.querySelectorAll("details")];
    for (const route of routes) {
      const content = route.textContent.toLowerCase();
      route.hidden = !words.every((word) => content.includes(word));
    }
    section.hidden = routes.every((route) => route.hidden);
  }
}

function routePart(method, path, route) {
  const body = bodyOf(route);
  const answer = answerOf(route);
  const [first, ...more] = (route.description ?? "").split("\n\n").map((text) => text.replace(/\s+/g, " ").trim());
  return el(
    "details",
    { class: "panel route", id: `${method}-${path.replace(/[^\w]+/g, "-").replace(/^-|-$/g, "")}` },
    el("summary", {}, el("span", { class: "badge" }, method.toUpperCase()), " ", el("code", {}, path), el("p", { class: "help" }, first)),
    more.map((text) => el("p", {}, text)),
    fields("Parameters", (route.parameters ?? []).map(parameter)),
    body && fields("Body", rows(body)),
    answer && fields("Answer", rows(answer)),
    el("pre", { tabindex: "0", "aria-label": "A request" }, example(method, path, body)),
  );
}

function parameter({ name, in: place, required, description, schema }) {
  const at = place === "query" ? "" : `, ${place}`;
  return { name, required, kind: kindOf(schema) + at, help: description ?? "" };
}

/** The schema of the JSON that a route takes. */
function bodyOf(route) {
  return resolved(route.requestBody?.content?.["application/json"]?.schema);
}

/** The schema of the JSON that a route answers where all is well. */
function answerOf(route) {
  const good = Object.entries(route.responses ?? {}).find(([status]) => status.startsWith("2"));
  const schema = good?.[1].content?.["application/json"]?.schema;
  return resolved(schema?.items ?? schema?.anyOf?.[0] ?? schema);
}

function resolved(schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? definitions[name] : schema;
}

function rows(schema) {
  return Object.entries(schema.properties ?? {}).map(([name, field]) => ({
    name,
    required: (schema.required ?? []).includes(name),
    kind: kindOf(field),
    help: field.description ?? "",
  }));
}

/** What a field may be, in words. */
function kindOf(schema = {}) {
  const inner = resolved(schema) ?? {};
  if (inner.enum) return inner.enum.join(", ");
  if (inner.anyOf) {
    const kinds = inner.anyOf.filter(({ type }) => type !== "null").map(kindOf);
    return [...new Set(kinds)].join(" or ");
  }
  if (inner.type === "array") return `list of ${kindOf(inner.items)}`;
  if (inner.format === "date-time") return "time";
  if (inner.format === "uuid") return "id";
  return { string: "text", integer: "number", number: "number", boolean: "yes or no" }[inner.type] ?? "object";
}

function fields(title, listed) {
  if (!listed.length) return null;
  return el(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": title },
    el(
      "table",
      { class: "fields" },
      el("caption", {}, title),
      el("thead", {}, el("tr", {}, ["name", "what", "meaning"].map((text) => el("th", { scope: "col" }, text)))),
      el(
        "tbody",
        {},
        listed.map(({ name, required, kind, help }) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, el("code", {}, name), required && el("span", { class: "help" }, " needed")),
            el("td", {}, kind),
            el("td", {}, help),
          ),
        ),
      ),
    ),
  );
}

/** A request for a shell. */
function example(method, path, body) {
  const given = Object.entries(body?.properties ?? {}).filter(([name]) => body.required?.includes(name));
  const lines = [`curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`} "${location.origin}${path}"`];
  lines.push('-H "Authorization: Bearer $TOKEN"');
  if (body) {
    const json = Object.fromEntries(given.map(([name, field]) => [name, sample(field)]));
    lines.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(json)}'`);
  }
  if (path.includes("/inputs/") && method === "put") lines.push("--upload-file FILE");
  return lines.join(" \\\n    ");
}

function sample(field) {
  const { type } = resolved(field) ?? {};
  return { string: "…", integer: 1, number: 1, boolean: true, array: [{}] }[type] ?? {};
}

begin();
