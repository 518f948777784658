// Small marks that say one thing each: never by colour alone.

import { h } from "./dom.js";
import { OUTCOMES } from "./words.js";

export function verdict(outcome) {
  const { sign, tone, says } = OUTCOMES[outcome] ?? { sign: "?", tone: "none", says: "" };
  return h("span", { class: `chip ${tone}`, title: says }, h("span", { "aria-hidden": "true" }, sign), ` ${outcome.replace("_", " ")}`);
}

/** How the call itself went. */
export function result(call) {
  if (!call.ended_at) {
    return call.answered_at
      ? h("span", { class: "chip live" }, h("span", { class: "pulse", "aria-hidden": "true" }), " in progress")
      : h("span", { class: "chip live" }, h("span", { class: "pulse", "aria-hidden": "true" }), " setting up");
  }
  const failed = (call.status ?? 0) >= 300 || call.reason === "interrupted";
  const words = call.status === 200 && call.reason === "completed" ? "completed" : `${call.status ?? ""} ${call.reason ?? ""}`.trim();
  return h("span", { class: `chip ${failed ? (call.reason === "cancelled" ? "wait" : "bad") : "plain"}`, title: call.cause ?? "" }, words);
}

/** A call that failed in the sense of its caller. */
export function failed(call) {
  return Boolean(call.ended_at) && ((call.status ?? 0) >= 300 || !["completed", null, undefined].includes(call.reason));
}
