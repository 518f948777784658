// The outbox: what left for the evaluator and the webhooks, what did not, and another try for what was given up.

import { get, query, send } from "./api.js";
import { h, paced, put, say } from "./dom.js";
import { ago, count, exactly, when } from "./format.js";
import { live } from "./live.js";

const PAGE = 50;
const STATES = ["pending", "delivered", "dead", "superseded"];
const TONES = { delivered: "good", dead: "bad", pending: "wait", superseded: "none" };

export async function show(main, place, signal) {
  const asked = place.query;
  const body = h("tbody");
  const notice = h("p", { class: "notice", role: "alert", hidden: true });
  const nothing = h("p", { class: "empty", hidden: true }, "Nothing here: no delivery is in this state.");
  const more = h("button", { type: "button", class: "more", hidden: true }, "Show older deliveries");
  let limit = PAGE;

  const read = async () => {
    const told = await get(`/v1/deliveries${query({ state: asked.get("state"), limit })}`, signal);
    put(
      body,
      told.deliveries.map((each) => row(each, retry)),
    );
    nothing.hidden = told.deliveries.length > 0;
    more.hidden = !told.next || limit >= 500;
  };
  const retry = async (each, button) => {
    button.disabled = true;
    try {
      await send("POST", `/v1/deliveries/${each.id}/retry`, undefined, signal);
      notice.hidden = true;
      say(`Delivery ${each.id} is tried again`);
      await until(each, read);
    } catch (error) {
      if (signal.aborted) return;
      put(notice, error.message);
      notice.hidden = false;
      button.disabled = false;
    }
  };
  const choose = (event) => {
    if (event.target.value) asked.set("state", event.target.value);
    else asked.delete("state");
    history.replaceState(null, "", asked.size ? `#/deliveries?${asked}` : "#/deliveries");
    read().catch((error) => say(error.message));
  };
  const options = ["", ...STATES].map((name) => h("option", { value: name, selected: name === (asked.get("state") ?? "") }, name || "any"));
  const filter = h(
    "form",
    { class: "filters", role: "search", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
    h("label", { for: "f-state" }, h("span", {}, "State"), h("select", { id: "f-state", onchange: choose }, options)),
  );
  more.addEventListener("click", () => {
    limit = Math.min(500, limit * 2);
    read().catch((error) => say(error.message));
  });
  await read();
  const heads = ["Delivery", "What", "To", "State", "Attempts", "Since", ""];
  const head = h(
    "thead",
    {},
    h(
      "tr",
      {},
      heads.map((name) => h("th", { scope: "col" }, name || h("span", { class: "hidden" }, "Action"))),
    ),
  );
  const table = h("table", { class: "list" }, h("caption", { class: "hidden" }, "Deliveries, newest first"), head, body);
  put(main, h("h1", {}, "Deliveries"), filter, notice, h("div", { class: "card wide" }, table, nothing), more);
  const again = paced(() => read().catch((error) => !signal.aborted && say(error.message)), 1000);
  live.addEventListener("call", again, { signal });
  live.addEventListener("back", again, { signal });
}

/** Look again while a delivery is on its way: it takes a moment, and no event tells of it when it fails. */
async function until(each, read) {
  for (let i = 0; i < 10; i += 1) {
    await new Promise((resolve) => setTimeout(resolve, 400));
    await read();
    const now = await get(`/v1/deliveries${query({ call_id: each.call_id })}`);
    if (now.deliveries.every((one) => one.id !== each.id || one.state !== "pending")) return;
  }
}

function row(each, retry) {
  const again = ["dead", "superseded"].includes(each.state);
  const button =
    again &&
    h(
      "button",
      { type: "button", "aria-label": `Try delivery ${each.id} again`, onclick: (event) => retry(each, event.target) },
      "Try again",
    );
  const about = each.call
    ? h("a", { href: `#/calls/${encodeURIComponent(each.call)}`, data: { row: "" } }, h("bdi", {}, each.call_id))
    : h("bdi", {}, each.call_id);
  const state = each.state === "pending" && each.under_way ? "under way" : each.state;
  const cell = (name, ...content) => h("td", { data: { name } }, content);
  return h(
    "tr",
    { data: { delivery: each.id } },
    h("th", { scope: "row" }, String(each.id)),
    cell("What", each.kind.replaceAll("_", " "), h("span", { class: "under mono" }, about)),
    cell(
      "To",
      h("bdi", {}, each.destination),
      each.workspace_id && h("span", { class: "under dim" }, `workspace ${each.workspace_id}, `, h("bdi", {}, each.agent_id)),
    ),
    cell(
      "State",
      h("span", { class: `chip ${TONES[each.state]}` }, state),
      each.last_error && h("span", { class: "under dim" }, h("bdi", {}, each.last_error)),
    ),
    cell("Attempts", count(each.attempts), each.next_at && h("span", { class: "under dim" }, `next ${when(each.next_at)}`)),
    cell("Since", h("time", { datetime: each.created_at, title: exactly(each.created_at) }, ago(each.created_at))),
    cell("", button),
  );
}
