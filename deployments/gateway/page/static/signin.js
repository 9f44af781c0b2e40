// The view to sign in, with a token or by a link.

import { post } from "./api.js";
import { button, el, fill } from "./dom.js";
import { setTitle } from "./notice.js";

/** The view. Calls `done(me)` once the user is signed in. */
export async function signInView(view, done, said = "") {
  setTitle("Sign in");
  const link = location.hash.slice(1);
  // The secret of a link is taken out of the address, and so of the history.
  if (link) history.replaceState(null, "", location.pathname);
  const error = el("p", { class: "error", id: "token-error", role: "alert" }, said);
  const input = el("input", {
    id: "token",
    type: "password",
    autocomplete: "current-password",
    spellcheck: "false",
    placeholder: "prefecture_…",
    "aria-describedby": "token-help token-error",
  });
  const submit = button("Sign in", null, "primary", { type: "submit" });
  fill(
    view,
    el(
      "form",
      { class: "panel sign-in", onsubmit: (event) => (event.preventDefault(), enter({ token: input.value })) },
      el("h1", {}, "Sign in"),
      // For password managers, which keep a password under a name.
      el("input", { type: "text", autocomplete: "username", value: "token", hidden: true, "aria-hidden": "true" }),
      el("label", { for: "token" }, "Your token"),
      input,
      el("p", { class: "help", id: "token-help" }, "The operator of this Prefecture gives you one, or a link."),
      error,
      submit,
    ),
  );
  if (link) await enter({ link });
  else input.focus();

  async function enter(given) {
    submit.disabled = true;
    error.textContent = "";
    try {
      done(await post("/session", given));
    } catch (problem) {
      error.textContent = problem.message;
      submit.disabled = false;
      input.focus();
    }
  }
}
