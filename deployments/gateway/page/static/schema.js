// JSON schemas of payloads, as a form needs them.

/** A schema merged with the definition that it refers to; its own entries win. */
export function resolve(schema, definitions) {
  if (!schema.$ref) return schema;
  const target = definitions[schema.$ref.split("/").pop()] ?? {};
  const { $ref, ...own } = schema;
  return { ...resolve(target, definitions), ...own };
}

/** The two names of an object's fields of which it has just one: ["image", "build"]; or null. */
export function alternatives(schema) {
  const names = (schema.else && schema.then?.required?.[0]?.split(" or ")) || [];
  return names.length === 2 && names.every((name) => name in (schema.properties ?? {})) ? names : null;
}

/** Which control shows a value. */
export function kindOf(schema) {
  if (schema["x-source"]) return "source";
  if (schema.properties) return "object";
  const choices = schema.anyOf ?? schema.oneOf ?? [];
  const mapping = [schema, ...choices].find(
    (each) => each.type === "object" && each.additionalProperties,
  );
  if (mapping) return "pairs";
  if (choices.length) {
    const usual = choices.find((each) => each.type !== "null");
    return kindOf({ ...usual, ...schema, anyOf: undefined, oneOf: undefined, type: usual.type });
  }
  if (schema.enum) return "choice";
  switch (schema.type) {
    case "boolean":
      return "tick";
    case "integer":
    case "number":
      return "number";
    case "array":
      return schema.items?.enum ? "ticks" : "list";
    case "string":
      if (schema.format === "date-time") return "time";
      return schema.maxLength >= 1000 ? "text" : "line";
    default:
      return "line";
  }
}

/** The schema of the values of an object of texts by name. */
export function valuesOf(schema) {
  const all = [schema, ...(schema.anyOf ?? [])];
  return all.find((each) => each.additionalProperties)?.additionalProperties ?? {};
}

/** What a number may be, in words: "2 to 100"; empty where there is no bound. */
export function bounds(schema) {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  const shown = (number) => number.toLocaleString("en-US", { maximumFractionDigits: 6 });
  if (minimum !== undefined && maximum !== undefined) return `${shown(minimum)} to ${shown(maximum)}`;
  const parts = [
    ["at least", minimum],
    ["over", exclusiveMinimum],
    ["up to", maximum],
    ["under", exclusiveMaximum],
  ].filter(([, bound]) => bound !== undefined);
  return parts.map(([word, bound]) => `${word} ${shown(bound)}`).join(" and ");
}

/** What is wrong with a value, in one line; empty where nothing is. The server checks it again. */
export function wrong(value, schema) {
  if (typeof value === "number") return wrongNumber(value, schema);
  if (typeof value === "string") return wrongText(value, schema);
  if (Array.isArray(value) && value.length > (schema.maxItems ?? Infinity)) {
    return `at most ${schema.maxItems}`;
  }
  return "";
}

function wrongNumber(value, schema) {
  if (Number.isNaN(value)) return "this is no number";
  if (schema.type === "integer" && !Number.isInteger(value)) return "this is no whole number";
  const outside =
    value < (schema.minimum ?? -Infinity) ||
    value > (schema.maximum ?? Infinity) ||
    value <= (schema.exclusiveMinimum ?? -Infinity) ||
    value >= (schema.exclusiveMaximum ?? Infinity);
  return outside ? `${value.toLocaleString("en-US")} is not ${bounds(schema)}` : "";
}

function wrongText(value, schema) {
  if (value.length > (schema.maxLength ?? Infinity)) {
    return `this is longer than ${schema.maxLength} characters`;
  }
  const asked = schema.if?.not?.anyOf?.find((each) => each.pattern);
  if (asked && !new RegExp(asked.pattern).test(value)) return `expected: ${schema.then.const}`;
  return "";
}
