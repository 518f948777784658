// Where an address leads, who may come in, and the keys that work everywhere.

import { Refused, forgetToken, hasToken, operations, session, useToken } from "./api.js";
import * as call from "./call.js";
import * as calls from "./calls.js";
import * as deliveries from "./deliveries.js";
import { h, say } from "./dom.js";
import { live, state, watch } from "./live.js";
import * as routes from "./routes.js";
import * as sidecars from "./sidecars.js";
import { themeButton } from "./theme.js";
import * as verify from "./verify.js";

const showCalls = (main, place, signal) => (place.id ? call : calls).show(main, place, signal);
const VIEWS = [
  { name: "calls", title: "Calls", show: showCalls, needs: "GET /v1/calls" },
  { name: "deliveries", title: "Deliveries", show: deliveries.show, needs: "GET /v1/deliveries" },
  { name: "sidecars", title: "Sidecars", show: sidecars.show, needs: "GET /v1/sidecars" },
  { name: "routes", title: "Routes", show: routes.show, needs: "PUT /v1/routes" },
  { name: "verify", title: "Verify", show: verify.show, needs: "POST /v1/verify" },
];
const KEYS = [
  ["↑ ↓ or j k", "next and previous row"],
  ["Enter", "open the row"],
  ["/", "to the first filter"],
  ["Esc", "back to the calls"],
  ["+ − ← → 0", "in the timeline: zoom, move, the whole call"],
  ["Space", "in a call with a recording: play, pause"],
  ["?", "this list"],
];

const main = document.getElementById("main");
let leaving = new AbortController();
let list = "#/calls";

/** The address after the #, as view, id and parameters. A hash, so that nothing of a call reaches a server's access log. */
export function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [view = "calls", id = null] = path.split("/").map(decodeURIComponent);
  return { view: view || "calls", id, query: new URLSearchParams(query) };
}

function mark() {
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.view === place().view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function go() {
  if (location.hash === "#main") return;
  leaving.abort();
  if (place().view === "calls" && !place().id) list = location.hash || list;
  const { signal } = (leaving = new AbortController());
  const here = place();
  const view = VIEWS.find((each) => each.name === here.view) ?? VIEWS[0];
  mark();
  document.title = `${view.title} · Trunkside`;
  try {
    await view.show(main, here, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) askForToken(error);
    else
      main.replaceChildren(h("section", { class: "empty", role: "alert" }, h("h1", {}, "This cannot be shown"), h("p", {}, error.message)));
  }
}

function askForToken(error) {
  const field = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const enter = (event) => {
    event.preventDefault();
    useToken(field.value.trim());
    go();
  };
  main.replaceChildren(
    h(
      "form",
      { class: "gate", onsubmit: enter },
      h("h1", {}, "A token, please"),
      h("p", {}, "This control asks who you are. Enter a token with the scope read; operate lets you retry and change things."),
      hasToken() && h("p", { class: "wrong", role: "alert" }, error.message),
      h("label", { for: "token" }, "Token"),
      field,
      h("button", { type: "submit", class: "main" }, "Enter"),
      h("p", { class: "dim" }, "It is kept in this tab only, and gone when the tab closes."),
    ),
  );
  field.focus();
}

function help() {
  const rows = KEYS.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, keys), h("td", {}, what)));
  const dialog = h("dialog", { class: "help", "aria-label": "Keys" }, h("h2", {}, "Keys"), h("table", {}, h("tbody", {}, rows)));
  dialog.append(h("form", { method: "dialog" }, h("button", { class: "main" }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** Let up and down move through whatever can be opened in the view. */
function step(by) {
  const rows = [...main.querySelectorAll("a[data-row]")];
  if (!rows.length) return false;
  const at = rows.indexOf(document.activeElement);
  rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by))].focus();
  return true;
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const typing = event.target instanceof Element && event.target.closest("input, select, textarea, dialog, [role=listbox], .timeline");
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (place().id) location.hash = list;
    else if (typing) event.target.blur();
  } else if (typing) {
    return;
  } else if (event.key === "?") {
    help();
  } else if (event.key === "/") {
    main.querySelector(".filters select, .filters input")?.focus();
    event.preventDefault();
  } else if (["ArrowDown", "j", "ArrowUp", "k"].includes(event.key)) {
    if (step(event.key === "ArrowDown" || event.key === "j" ? 1 : -1)) event.preventDefault();
  }
}

function showState() {
  const lamp = document.getElementById("live");
  lamp.dataset.state = state;
  lamp.textContent = state === "on" ? "live" : "not live";
  lamp.title = state === "on" ? "Changes appear as they happen" : "The stream of events is down: trying again";
}

/** Name the views that this control has something to show in: an older one lacks some operations. */
async function menu() {
  const offered = await operations();
  const items = VIEWS.filter((view) => offered.has(view.needs));
  document
    .getElementById("nav")
    .append(...items.map((view) => h("li", {}, h("a", { href: `#/${view.name}`, data: { view: view.name } }, view.title))));
  mark();
}

themeButton(document.getElementById("theme"));
document.getElementById("help").addEventListener("click", help);
const leave = document.getElementById("leave");
leave.addEventListener("click", () => {
  forgetToken();
  say("Token forgotten");
  go();
});
session.addEventListener("token", () => (leave.hidden = !hasToken()));
leave.hidden = !hasToken();
live.addEventListener("state", showState);
showState();
addEventListener("hashchange", go);
addEventListener("keydown", keys);
menu().catch((error) => say(error.message));
watch();
go();
