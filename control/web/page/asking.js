// A question before something that cannot be taken back.

import { h } from "./dom.js";

/** Ask before something that cannot be taken back. */
export function sure(question) {
  return new Promise((resolve) => {
    const form = h(
      "form",
      { method: "dialog", class: "buttons" },
      h("button", { value: "yes", class: "main" }, "Yes"),
      h("button", { value: "no", autofocus: true }, "No"),
    );
    const dialog = h("dialog", { "aria-label": "Are you sure?" }, h("p", {}, question), form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
