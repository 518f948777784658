// The figures of a call as tables: its turns, and its media.

import { h, put } from "./dom.js";
import { reportedByTurn } from "./figures.js";
import { count, felt, moment, ms, percent, signed, stretch } from "./format.js";
import { BARGE_INS, BARGE_SAYS } from "./words.js";

const CHUNK = 100;

/** Fill the section with the call's turns; returns {mark(n)}. What lies below the fold is made when there is time. */
export function turns(host, call, onTurn) {
  const reported = reportedByTurn(call);
  const most = Math.max(1000, ...call.turns.map((turn) => turn.response_latency_ms));
  const rows = [];
  const body = h("tbody");
  const make = (until) => {
    const fresh = call.turns.slice(rows.length, until).map((turn) => row(turn, reported.get(turn.n), most, onTurn));
    rows.push(...fresh);
    body.append(...fresh);
  };
  const later = () => {
    make(rows.length + CHUNK);
    if (rows.length < call.turns.length && body.isConnected) requestIdleCallback(later);
  };
  make(CHUNK);
  if (rows.length < call.turns.length) requestIdleCallback(later);
  const names = ["Turn", "At, s", "Caller", "Wire", "SDK", "Wire − SDK", "Agent", "Notes"];
  const head = h(
    "thead",
    {},
    h(
      "tr",
      {},
      names.map((name, i) => h("th", { scope: "col", class: i && i < 7 ? "n" : "" }, name)),
    ),
  );
  const table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All turns" }, h("table", {}, head, body));
  const speech = call.speech;
  const sums =
    speech.agent_ms + speech.caller_ms > 0
      ? h(
          "p",
          { class: "dim" },
          [
            `Caller ${stretch(speech.caller_ms)}`,
            `agent ${stretch(speech.agent_ms)} (talk ratio ${speech.talk_ratio === null ? "–" : speech.talk_ratio.toFixed(2)})`,
            `both ${stretch(speech.overlap_ms)}`,
            `silence ${stretch(speech.silence_ms)}`,
            `dead air ${speech.dead_air}`,
          ].join(", "),
        )
      : null;
  const nothing = h("p", { class: "dim" }, call.answered_at ? "No turn was measured." : "The call was not answered.");
  put(host, h("h2", { id: "turns" }, "Turns"), call.turns.length ? table : nothing, sums, barges(call));
  return {
    mark(n) {
      make(call.turns.length);
      for (const each of rows) each.classList.toggle("chosen", Number(each.dataset.turn) === n);
      const chosen = rows.find((each) => Number(each.dataset.turn) === n);
      const box = host.querySelector(".scroll");
      if (chosen && box) box.scrollTop = chosen.offsetTop - box.clientHeight / 2;
    },
  };
}

function row(turn, sdk, most, onTurn) {
  const words = { response: "", overlap: "agent began early", agent_interruption: "agent cuts in" }[turn.kind];
  const open = h(
    "button",
    { type: "button", class: "link", "aria-label": `Turn ${turn.n} in the timeline`, onclick: () => onTurn(turn.n) },
    turn.n,
  );
  const css = turn.kind === "response" ? felt(turn.response_latency_ms) : "early";
  const bar = h(
    "span",
    { class: `meter felt ${css}`, style: { "--share": Math.max(0, turn.response_latency_ms / most).toFixed(4) } },
    ms(turn.response_latency_ms),
  );
  const cell = (name, css, ...content) => h("td", { class: css, data: { name } }, content);
  return h(
    "tr",
    { data: { turn: turn.n } },
    h("th", { scope: "row" }, open),
    cell("at", "n", moment(turn.caller_start_ms)),
    cell("caller", "n", stretch(turn.caller_end_ms - turn.caller_start_ms)),
    cell("wire", "n", bar),
    cell("SDK", "n", sdk ? ms(sdk.reported) : "–"),
    cell("wire − SDK", "n", sdk ? signed(sdk.difference) : "–"),
    cell("agent", "n", stretch(turn.agent_end_ms - turn.agent_start_ms)),
    cell(
      "",
      "",
      [words, turn.interrupted ? "interrupted" : "", turn.kind === "response" ? `± ${Math.round(turn.uncertainty_ms)}` : ""]
        .filter(Boolean)
        .join(", "),
    ),
  );
}

function barges(call) {
  if (!call.barge_ins.length) return null;
  const item = (each) =>
    h(
      "li",
      {},
      h("b", {}, BARGE_INS[each.kind]),
      ` at ${moment(each.caller_start_ms)} s`,
      each.latency_ms === null ? "" : `: silent after ${ms(each.latency_ms)}`,
      h("span", { class: "dim" }, ` – ${BARGE_SAYS[each.kind]}`),
    );
  return h("div", {}, h("h3", {}, "Interruptions by the caller"), h("ul", { class: "barges" }, call.barge_ins.map(item)));
}

/** The section's content: both directions beside each other. */
export function media(call) {
  const { caller, agent } = call.media;
  if (caller.packets + agent.packets === 0)
    return [
      h("h2", { id: "media" }, "Media"),
      h("p", { class: "dim" }, call.ended_at ? "No media passed." : "Counted when the call has ended."),
    ];
  const lines = [
    ["codec", (one) => one.codec ?? "–"],
    ["packets", (one) => count(one.packets)],
    ["lost", (one) => `${count(one.lost)} (${percent(one.loss_pct)})`],
    ["jitter", (one) => ms(one.jitter_ms, 1)],
    ["MOS-LQ", (one) => (one.mos_lq === null ? "–" : one.mos_lq.toFixed(2))],
    ["round trip", (one) => (one.round_trip_ms?.n ? ms(one.round_trip_ms.p50, 1) : "–")],
    [
      "worst 5 s",
      (one) => (one.worst_interval ? `${percent(one.worst_interval.loss_pct)} lost at ${moment(one.worst_interval.start_ms)} s` : "–"),
    ],
    ["reordered, doubled", (one) => `${count(one.reordered)}, ${count(one.duplicates)}`],
    ["SSRC", (one) => one.ssrcs.join(" ") || "–"],
    ["keys", (one) => one.dtmf.map((each) => each.digit).join(" ") || "–"],
  ];
  const table = h(
    "table",
    {},
    h(
      "thead",
      {},
      h("tr", {}, h("td"), h("th", { scope: "col", class: "n" }, "caller sends"), h("th", { scope: "col", class: "n" }, "agent sends")),
    ),
    h(
      "tbody",
      {},
      lines.map(([name, tell]) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, name),
          h("td", { class: "n" }, h("bdi", {}, tell(caller))),
          h("td", { class: "n" }, h("bdi", {}, tell(agent))),
        ),
      ),
    ),
  );
  const noticed = call.media.findings ?? [];
  const delay = call.media.relay_delay;
  const own = [
    delay.p50_us !== null && `Trunkside itself delayed a packet by ${delay.p50_us} µs (p99 ${delay.p99_us} µs)`,
    call.media.tap_dropped > 0 && `the analysis missed ${count(call.media.tap_dropped)} packets`,
    call.media.refused > 0 && `${count(call.media.refused)} packets came from strangers and were refused`,
  ].filter(Boolean);
  const heard =
    noticed.length > 0 &&
    h(
      "ul",
      { class: "findings" },
      noticed.map((each) => h("li", {}, h("b", {}, each.name.replaceAll("_", " ")), ": ", h("bdi", {}, each.detail))),
    );
  return [h("h2", { id: "media" }, "Media"), heard, table, own.length > 0 && h("p", { class: "dim" }, `${own.join("; ")}.`)];
}
