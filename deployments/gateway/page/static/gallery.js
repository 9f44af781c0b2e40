// The pictures of a job, before and after, and a closer look at a pair.

import { button, el, fill } from "./dom.js";
import { bytes, change, encoded } from "./words.js";

const AT_ONCE = 12;

/** Fill the part of a job's view. `pairs`: as the gateway lists them. */
export function gallery(part, address, pairs) {
  const shown = pairs.filter(({ before, after }) => before || after);
  part.hidden = shown.length === 0;
  const list = el("ul", { class: "gallery" });
  const more = button("Show more", add);
  let next = 0;

  function add() {
    const some = shown.slice(next, next + AT_ONCE);
    next += some.length;
    list.append(...some.map((pair) => card(address, pair)));
    more.hidden = next >= shown.length;
  }

  add();
  fill(part, el("h2", {}, shown.some(({ before }) => before) ? "Before and after" : "Pictures"), list, more);
}

function addressOf(address, side, path) {
  return `/v1${address}/pictures/${side}/${encoded(path)}`;
}

function image(address, side, path) {
  const picture = el("img", {
    src: addressOf(address, side, path),
    alt: `${side === "before" ? "Before" : "After"}: ${path}`,
    loading: "lazy",
    decoding: "async",
    onerror: () => picture.replaceWith(el("span", { class: "no-picture" }, "cannot be shown")),
  });
  return picture;
}

function card(address, pair) {
  const { before, after, note } = pair;
  const name = after ?? before;
  return el(
    "li",
    {},
    el(
      "button",
      { type: "button", class: "pair", onclick: () => look(address, pair), "aria-label": `Look at ${name}` },
      before && figure(address, "before", before, pair.bytes_before),
      after && figure(address, "after", after, pair.bytes_after),
    ),
    el(
      "p",
      { class: "caption" },
      el("span", {}, name),
      el("strong", {}, after ? change(pair.bytes_before, pair.bytes_after) : ""),
    ),
    note && el("p", { class: "help" }, note),
  );
}

function figure(address, side, path, size) {
  const words = side === "before" ? "Before" : "After";
  return el(
    "span",
    { class: "figure" },
    image(address, side, path),
    el("span", { class: "size" }, size === null ? words : `${words} · ${bytes(size)}`),
  );
}

/** A pair in full, one over the other, with a slider between them. */
function look(address, { before, after, bytes_before, bytes_after }) {
  const over = before && after ? image(address, "before", before) : null;
  const slider = el("input", {
    type: "range",
    min: 0,
    max: 100,
    ".value": 50,
    "aria-label": "How much of the picture is shown as it was before",
    oninput: () => cut(),
  });
  const cut = () => {
    over?.style.setProperty("clip-path", `inset(0 ${100 - slider.value}% 0 0)`);
    stage.style.setProperty("--cut", `${slider.value}%`);
  };
  const stage = el(
    "div",
    { class: over ? "stage two" : "stage" },
    image(address, after ? "after" : "before", after ?? before),
    over,
    over && el("span", { class: "divider", "aria-hidden": "true" }),
  );
  const sizes = [
    before && bytes_before !== null && `Before ${bytes(bytes_before)}`,
    after && bytes_after !== null && `After ${bytes(bytes_after)}`,
  ];
  const dialog = el(
    "dialog",
    {
      class: "viewer",
      "aria-label": after ?? before,
      onclose: () => dialog.remove(),
      onclick: (event) => event.target === dialog && dialog.close(),
    },
    el(
      "div",
      { class: "row spread" },
      el("strong", {}, after ?? before),
      el("span", { class: "help" }, sizes.filter(Boolean).join(" → ")),
      button("Close", () => dialog.close(), "small"),
    ),
    stage,
    over && slider,
  );
  document.body.append(dialog);
  dialog.showModal();
  cut();
}
