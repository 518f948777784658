// One call: what became of it and why, its ladder, its media on the same clock, its identity, its figures.

import { get, send } from "./api.js";
import { sure } from "./asking.js";
import { failed, result, verdict as verdictChip } from "./chips.js";
import { h, paced, plain, put, say } from "./dom.js";
import { latencies } from "./figures.js";
import { files } from "./files.js";
import { duration, exactly, felt, ms, party, percent, when } from "./format.js";
import { ladder } from "./ladder.js";
import { listener } from "./listen.js";
import { live } from "./live.js";
import { message } from "./message.js";
import { player } from "./player.js";
import { answeredAt, culprit, steps } from "./steps.js";
import { media, turns } from "./tables.js";
import { scene, timeline } from "./timeline.js";
import { verdict } from "./verdict.js";
import { MEND_REASON } from "./words.js";

export async function show(main, place, signal) {
  const path = `/v1/calls/${encodeURIComponent(place.id)}`;
  const parts = build(main, path);
  signal.addEventListener("abort", parts.close);
  addEventListener(
    "keydown",
    (event) => {
      const taken = event.target instanceof Element && event.target.closest("button, a, input, select, textarea, dialog, summary");
      if (event.key !== " " || taken || !told?.call.media.recording) return;
      event.preventDefault();
      parts.toggle();
    },
    { signal },
  );
  let told = null;
  const read = async () => {
    const [call, messages, times, deliveries] = await Promise.all([
      get(path, signal),
      get(`${path}/messages`, signal),
      get(`${path}/timeline`, signal),
      get(`/v1/deliveries?call=${encodeURIComponent(place.id)}`, signal).catch(() => ({ deliveries: [] })),
    ]);
    told = { call, messages: messages.messages, times, deliveries: deliveries.deliveries };
    parts.show(told);
  };
  await read();
  document.title = `${party(told.call.from)} → ${party(told.call.to)} · Trunkside`;
  const turn = Number(place.query.get("turn"));
  if (turn) parts.focusTurn(turn);
  const again = paced(() => read().catch((error) => !signal.aborted && say(error.message)), 1000);
  live.addEventListener("call", (event) => event.detail.id === told.call.id && again(), { signal });
  live.addEventListener("back", again, { signal });
}

/** The parts of the view, once; `show` fills them again and again while the call goes on. */
function build(main, path) {
  const title = h("header", { class: "title" });
  const why = h("section", { class: "why", "aria-label": "What happened" });
  const pane = h("aside", { class: "beside", "aria-label": "Message", "aria-live": "off" });
  const identity = h("section", { class: "identity", "aria-labelledby": "identity" });
  const turnTable = h("section", { class: "turns", "aria-labelledby": "turns" });
  const mediaTable = h("section", { class: "media", "aria-labelledby": "media" });
  let chosen = null;

  const steps_ = ladder({
    onChoose: (row) => {
      chosen = row;
      put(
        pane,
        message(row, (other) => steps_.choose(other)),
      );
      media_.cursor(row.at);
      if (row.kind === "talk" && row.slow) media_.focusTurn(row.slow.turn?.n ?? row.slow.n);
    },
    onHover: (row) => media_.cursor(row ? row.at : chosen ? chosen.at : null),
  });
  const media_ = timeline({
    onTurn: (n) => table?.mark(n),
    onSeek: (at) => sound.seek(at - zero),
    onMessage: (row) => steps_.choose(row),
  });
  let table = null;
  let zero = 0;
  const ear = listener(path);
  const sound = player({ onMove: (time) => media_.playhead(time + zero, true) });
  const sections = [
    title,
    why,
    h(
      "section",
      { class: "ladder-and-message", "aria-labelledby": "ladder-title" },
      h("h2", { id: "ladder-title" }, "Ladder"),
      h("div", { class: "pair" }, steps_.element, pane),
    ),
    h(
      "section",
      { class: "timeline-section", "aria-labelledby": "timeline-title" },
      h("h2", { id: "timeline-title" }, "Timeline"),
      sound.element,
      media_.element,
    ),
    h("div", { class: "two" }, turnTable, h("div", {}, identity, mediaTable)),
  ];
  main.replaceChildren(h("article", { class: "call" }, sections));

  return {
    focusTurn: (n) => media_.focusTurn(n),
    close: () => {
      sound.close();
      ear.close();
    },
    toggle: () => sound.toggle(),
    show({ call, messages, times, deliveries }) {
      const rows = steps(call, messages, times);
      const found = rows.filter((row) => row.kind === "message");
      const guilty = failed(call) ? culprit(call, found) : null;
      if (call.ended_at) ear.close();
      put(title, heading(call, path, ear));
      put(why, reason(call, guilty, steps_));
      const before = chosen ? rows.find((row) => row.kind === chosen.kind && row.at === chosen.at && row.label === chosen.label) : null;
      steps_.show(rows, call);
      zero = answeredAt(call, times) ?? 0;
      media_.show(scene(call, times, rows, answeredAt(call, times)));
      sound.show(call, path);
      if (before) steps_.choose(before, false);
      else if (!chosen && found.length) steps_.choose(guilty ?? found[0], Boolean(guilty));
      put(identity, verdict(call, deliveries));
      table = turns(turnTable, call, (n) => media_.focusTurn(n, false));
      put(mediaTable, media(call));
    },
  };
}

function heading(call, path, ear) {
  const lasted = call.answered_at && call.ended_at ? duration(new Date(call.ended_at) - new Date(call.answered_at)) : null;
  const figures = latencies(call);
  const loss = Math.max(call.media.caller.loss_pct ?? 0, call.media.agent.loss_pct ?? 0);
  const heard = call.media.caller.packets + call.media.agent.packets > 0;
  const facts = [
    ["began", h("time", { datetime: call.started_at, title: exactly(call.started_at) }, when(call.started_at))],
    ["lasted", lasted ?? "–"],
    ["p50", h("span", { class: `felt ${felt(figures.p50)}` }, ms(figures.p50))],
    ["p90", h("span", { class: `felt ${felt(figures.p90)}` }, ms(figures.p90))],
    ["greeting", ms(call.timings_ms.greeting)],
    ["loss", heard ? percent(loss) : "–"],
    ["route", call.route || "–"],
    ["sidecar", call.sidecar || "–"],
    ...kept(call),
  ];
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/calls" }, "Calls"), " / ", h("span", { class: "mono" }, h("bdi", {}, call.sip_call_id))),
    h(
      "h1",
      {},
      h("bdi", { title: plain(call.from) }, party(call.from)),
      h("span", { class: "dim" }, " → "),
      h("bdi", { title: plain(call.to) }, party(call.to)),
    ),
    h(
      "p",
      { class: "chips" },
      result(call),
      verdictChip(call.verdict.outcome),
      h("span", { class: "chip plain" }, `${call.kind}, ${call.direction}`),
      !call.ended_at && call.answered_at && ear.element,
      !call.ended_at && order("Hang up", `${path}/hangup`, "The call was told to end", "Hang up this call? Both sides get a BYE."),
      !call.ended_at && order("Capture packets", `${path}/capture`, "Its packets are kept from now on: see its pcap when it has ended"),
    ),
    h(
      "dl",
      { class: "facts" },
      facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
    h(
      "p",
      { class: "files" },
      h("span", { class: "dim" }, "As a file: "),
      files(call, path),
    ),
  ];
}

const UPLOAD = { delivered: "felt good", pending: "felt slow", refused: "felt bad" };

/** What is kept of it besides its figures, and where it went. */
function kept(call) {
  const { recording, capture } = call.media;
  const upload = call.recording_upload;
  return [
    ...(recording ? [["recording", `${recording.format}${recording.cut ? ", cut short" : ""}`]] : []),
    ...(upload ? [["its upload", h("bdi", { class: UPLOAD[upload.state], title: upload.detail }, upload.state)]] : []),
    ...(capture ? [["captured", `${capture.packets} packets${capture.decrypted.length ? ", SRTP in the clear" : ""}`]] : []),
  ];
}

/** Has the sidecar do something with a live call, after a question if there is one; what control says against it is shown beside the button. */
function order(name, path, done, question) {
  const trouble = h("span", { class: "warn", role: "alert" });
  const press = async () => {
    if (question && !(await sure(question))) return;
    try {
      await send("POST", path);
      say(done);
    } catch (error) {
      put(trouble, ` ${error.message}`);
    }
  };
  return [h("button", { type: "button", class: "cite", onclick: press }, name), trouble];
}

/** Why it failed, in words, with the message that says so, and what to do. */
function reason(call, guilty, steps_) {
  if (!call.ended_at) return [];
  if (!failed(call)) return [h("p", {}, sentence(call.cause ?? call.reason ?? "it ended"), ".")];
  const cite =
    guilty &&
    h(
      "button",
      { type: "button", class: "cite", onclick: () => steps_.choose(guilty) },
      "see ",
      h("bdi", {}, guilty.label),
      ` on leg ${guilty.leg}`,
    );
  const mend = MEND_REASON[call.reason];
  return [
    h(
      "div",
      { class: "failed", role: "note" },
      h("p", { class: "cause" }, h("b", {}, h("bdi", {}, sentence(call.cause ?? call.reason ?? ""))), " ", cite),
      mend && h("p", {}, mend),
    ),
  ];
}

function sentence(text) {
  const clean = plain(text);
  return clean.charAt(0).toUpperCase() + clean.slice(1);
}
