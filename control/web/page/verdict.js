// The chain of evidence for the call's identity: what was seen, what was mended, and what to change.

import { verdict as chip } from "./chips.js";
import { h } from "./dom.js";
import { count, exactly, when } from "./format.js";
import { HOPS, MEND_LINK, OUTCOMES, RULES } from "./words.js";

/** The section's content. */
export function verdict(call, deliveries) {
  const told = call.verdict;
  const owed = call.kind === "simulation" && told.outcome !== "not_applicable";
  const mend = MEND_LINK[told.outcome];
  return [
    h("h2", { id: "identity" }, "Identity"),
    h("p", {}, chip(told.outcome), " ", OUTCOMES[told.outcome]?.says ?? ""),
    h(
      "ol",
      { class: "hops" },
      Object.keys(HOPS).flatMap((name) =>
        hop(
          name,
          told.hops.filter((each) => each.hop === name),
          owed,
        ),
      ),
    ),
    told.repair && repair(told.repair),
    told.candidates.length > 0 &&
      h(
        "p",
        {},
        "It could be any of: ",
        told.candidates.map((id) => [h("a", { class: "mono", href: `#/calls/${encodeURIComponent(id)}` }, id), " "]),
      ),
    mend && h("p", { class: "mend" }, h("b", {}, "What to change: "), mend),
    told.findings.length > 0 &&
      h(
        "ul",
        { class: "findings" },
        told.findings.map((each) => h("li", {}, h("b", {}, each.name.replaceAll("_", " ")), ": ", h("bdi", {}, each.detail))),
      ),
    ids(call),
    deliveries.length > 0 && sent(deliveries),
  ];
}

function hop(name, seen, owed) {
  if (!seen.length) {
    if (!owed) return [];
    return [h("li", { class: "unseen" }, h("b", {}, name), " ", h("span", { class: "dim" }, `not seen: ${HOPS[name]}`))];
  }
  return seen.map((each) =>
    h(
      "li",
      { class: "seen" },
      h("b", {}, name),
      " ",
      h("time", { class: "dim", datetime: each.at, title: exactly(each.at) }, when(each.at)),
      h("span", { class: "evidence" }, h("bdi", {}, each.evidence)),
    ),
  );
}

function repair(told) {
  const had = told.reported === null ? "no sip_call_id at all" : ["the sip_call_id ", h("code", {}, told.reported)];
  return h(
    "p",
    { class: "repair" },
    h("b", {}, "Repaired: "),
    "the report had ",
    had,
    "; it was recognised by ",
    RULES[told.rule] ?? told.rule,
    `, confidence ${told.confidence.toFixed(2)}.`,
  );
}

function ids(call) {
  const rows = [
    ["Call-ID, leg A", [call.sip_call_id]],
    ["Call-ID, leg B", call.b_leg_call_ids],
    ["platform", call.platform_ids],
    ["recipient", call.recipient ? [call.recipient] : []],
    ["correlation", call.correlation_sha256 ? [`sha256:${call.correlation_sha256.slice(0, 16)}…`] : []],
    ["source", call.source ? [call.source] : []],
  ];
  return h(
    "dl",
    { class: "ids" },
    rows
      .filter(([, values]) => values.length)
      .map(([name, values]) =>
        h(
          "div",
          {},
          h("dt", {}, name),
          h(
            "dd",
            { class: "mono" },
            values.map((value) => h("bdi", {}, value)),
          ),
        ),
      ),
  );
}

function sent(deliveries) {
  const item = (each) =>
    h(
      "li",
      {},
      h("span", { class: `chip ${{ delivered: "good", dead: "bad", pending: "wait" }[each.state] ?? "none"}` }, each.state),
      ` ${each.kind.replace("_", " ")} to ${each.destination.replace(/^webhook:.*/, "webhook")}, ${count(each.attempts)} ${each.attempts === 1 ? "attempt" : "attempts"}`,
      each.last_error && h("span", { class: "dim" }, ": ", h("bdi", {}, each.last_error)),
    );
  return [h("h3", {}, "Deliveries"), h("ul", { class: "sent" }, deliveries.map(item))];
}
