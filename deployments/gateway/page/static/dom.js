// Makes elements. Texts are set as text, never as markup: the policy of the page allows nothing else.

/** An element. `on…` is a listener, a name that begins with "." a property, all else an attribute. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) node[name.slice(1)] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...present(children));
  return node;
}

/** Put these children in the place of all others. */
export function fill(node, ...children) {
  node.replaceChildren(...present(children));
  return node;
}

function present(children) {
  return children.flat(3).filter((child) => child !== null && child !== undefined && child !== false);
}

let last = 0;
/** An id that no other element has. */
export function newId(prefix = "id") {
  last += 1;
  return `${prefix}-${last}`;
}

/** A button. `kind`: primary, quiet or danger; ordinary where it is left out. */
export function button(text, onclick, kind = "", props = {}) {
  return el("button", { type: "button", class: kind, onclick, ...props }, text);
}

/** Ask a question that is answered with a button. Resolves to whether it was the one to go on.
 * `more`: what is shown below the question. */
export function confirm(question, goOn, kind = "primary", ...more) {
  return new Promise((resolve) => {
    const dialog = el(
      "dialog",
      { class: "question", onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      el("p", {}, question),
      ...present(more),
      el(
        "div",
        { class: "row end" },
        button("Keep", () => dialog.close("no")),
        button(goOn, () => dialog.close("yes"), kind),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
