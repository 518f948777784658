// The media of a call on the ladder's clock: speech, levels, turns with their latency to scale, interruptions, keys, loss.

import { h, put, s, say } from "./dom.js";
import { overlaps, reportedByTurn, segments, sentence } from "./figures.js";
import { duration, ms, stretch } from "./format.js";
import { LANES, axis, bands, jitters, latencyBars, levels, marks, meaning, messageTicks, overview } from "./lanes.js";

const LEAST_WINDOW = 200;

/** What is drawn, in milliseconds since the call's first fact. */
export function scene(call, timeline, rows, answered) {
  const at = answered ?? 0;
  const shift = (list) => list.map(([start, end]) => [start + at, end + at]);
  const caller = shift(segments(call, timeline, "caller"));
  const agent = shift(segments(call, timeline, "agent"));
  const reported = reportedByTurn(call);
  const turns = call.turns.map((turn) => ({
    turn,
    from: turn.caller_end_ms + at,
    to: turn.agent_start_ms + at,
    start: turn.caller_start_ms + at,
    end: turn.agent_end_ms + at,
    sdk: reported.get(turn.n) ?? null,
  }));
  const messages = rows.filter((row) => row.kind === "message");
  const ended = (call.ended_at ? new Date(call.ended_at) : Date.now()) - new Date(call.started_at);
  const end = Math.max(1000, ended, rows.at(-1)?.at ?? 0, caller.at(-1)?.[1] ?? 0, agent.at(-1)?.[1] ?? 0, turns.at(-1)?.end ?? 0);
  const highest = turns.reduce((most, each) => Math.max(most, each.turn.response_latency_ms, each.sdk?.reported ?? 0), 0);
  return {
    call,
    answered: at,
    wasAnswered: answered !== null,
    caller,
    agent,
    turns,
    messages,
    end: end * 1.01,
    overlaps: overlaps(caller, agent),
    tracks: timeline?.tracks ?? null,
    ceiling: Math.min(4000, Math.max(1600, highest * 1.1)),
  };
}

/** `onTurn(n)`, `onSeek(ms)`, `onMessage(row)`; returns {element, show(scene), focusTurn(n), cursor(ms), playhead(ms)}. */
export function timeline({ onTurn, onSeek, onMessage }) {
  let told = null;
  let view = { t0: 0, t1: 1 };
  let selected = null;
  const canvas = s("svg", { class: "lanes-svg", "aria-hidden": "true" });
  const strip = s("svg", { class: "overview", "aria-hidden": "true" });
  const tip = h("div", { class: "tip", hidden: true });
  const hair = h("div", { class: "hair", hidden: true });
  const head = h("div", { class: "head", hidden: true });
  const range = h("output", { class: "dim range" });
  const stage = h("div", { class: "stage" }, canvas, hair, head, tip);
  const button = (text, label, work) =>
    h("button", { type: "button", class: "quiet", "aria-label": label, title: label, onclick: work }, text);
  const bar = h(
    "div",
    { class: "bar" },
    range,
    button("‹", "Previous turn", () => turnBy(-1)),
    button("›", "Next turn", () => turnBy(1)),
    button("+", "Zoom in", () => zoom(0.5)),
    button("−", "Zoom out", () => zoom(2)),
    button("Whole call", "Show the whole call", () => fit()),
  );
  const marks_ = h("ul", { class: "legend" });
  const element = h("div", { class: "timeline", tabindex: "0", role: "group", "aria-label": "Timeline" }, bar, strip, stage, marks_);

  let known = 800; // the stage's width as the observer saw it last: to ask would mean to lay out anew
  const width = () => known;
  const x = (at) => LANES.left + ((at - view.t0) / (view.t1 - view.t0)) * (width() - LANES.left - LANES.right);
  const at = (px) => view.t0 + ((px - LANES.left) / (width() - LANES.left - LANES.right)) * (view.t1 - view.t0);

  function draw() {
    if (!told) return;
    const w = width();
    const frame = { x, w, t0: view.t0, t1: view.t1, per: (w - LANES.left - LANES.right) / (view.t1 - view.t0), selected };
    canvas.setAttribute("width", w);
    canvas.setAttribute("height", LANES.height);
    canvas.setAttribute("viewBox", `0 0 ${w} ${LANES.height}`);
    canvas.replaceChildren(
      axis(told, frame),
      messageTicks(told, frame),
      bands(told, frame),
      levels(told, frame),
      jitters(told, frame),
      marks(told, frame),
      latencyBars(told, frame),
    );
    overview(strip, told, view, w);
    range.textContent = `${duration(view.t0)} – ${duration(view.t1)}, ${stretch(view.t1 - view.t0)}`;
    place(head, lastHead);
    hair.hidden = true;
  }
  function look(t0, t1) {
    const size = Math.min(told.end, Math.max(LEAST_WINDOW, t1 - t0));
    const start = Math.max(0, Math.min(told.end - size, t0));
    view = { t0: start, t1: start + size };
    schedule();
  }
  let frameAsked = 0;
  const schedule = () => (frameAsked ||= requestAnimationFrame(() => ((frameAsked = 0), draw())));
  const fit = () => look(0, told.end);
  const zoom = (factor, around = (view.t0 + view.t1) / 2) =>
    look(around - (around - view.t0) * factor, around + (view.t1 - around) * factor);
  const pan = (share) => look(view.t0 + share * (view.t1 - view.t0), view.t1 + share * (view.t1 - view.t0));

  function focusTurn(n, tell = true) {
    const each = told?.turns.find((one) => one.turn.n === n);
    if (!each) return;
    selected = n;
    const [from, to] = [Math.min(each.start, each.from), Math.max(each.end, each.to)];
    const room = Math.max(600, (to - from) * 0.15);
    look(from - room, to + room);
    say(sentence(each));
    if (tell) onTurn(n);
  }
  function turnBy(by) {
    if (!told?.turns.length) return;
    const i = told.turns.findIndex((each) => each.turn.n === selected);
    focusTurn(told.turns[Math.max(0, Math.min(told.turns.length - 1, i < 0 ? (by > 0 ? 0 : told.turns.length - 1) : i + by))].turn.n);
  }

  let lastHead = null;
  function place(line, time) {
    line.hidden = time === null || time < view.t0 || time > view.t1;
    if (!line.hidden) line.style.transform = `translateX(${x(time)}px)`;
  }
  function hover(event) {
    const box = stage.getBoundingClientRect();
    const px = event.clientX - box.left;
    if (px < LANES.left) return (hair.hidden = tip.hidden = true);
    place(hair, at(px));
    const target = event.target.closest("[data-turn], [data-message], [data-tip]");
    tip.hidden = false;
    tip.textContent = target ? meaning(told, target) : stretchAt(at(px));
    const left = Math.max(4, Math.min(px + 12, width() - tip.offsetWidth - 4));
    tip.style.transform = `translate(${left}px, ${Math.min(event.clientY - box.top + 16, LANES.height - 10)}px)`;
    return undefined;
  }
  const stretchAt = (time) =>
    told.wasAnswered
      ? `${stretch(time)} since the INVITE, call time ${stretch(time - told.answered)}`
      : `${stretch(time)} since the INVITE`;

  let drag = null;
  stage.addEventListener("pointermove", (event) => {
    if (!told) return;
    if (drag) {
      const by = ((drag.px - event.clientX) / (width() - LANES.left - LANES.right)) * (drag.t1 - drag.t0);
      drag.moved ||= Math.abs(drag.px - event.clientX) > 3;
      if (drag.moved) look(drag.t0 + by, drag.t1 + by);
    }
    hover(event);
  });
  stage.addEventListener("pointerleave", () => (hair.hidden = tip.hidden = true));
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    drag = { px: event.clientX, t0: view.t0, t1: view.t1, moved: false, target: event.target };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointerup", (event) => {
    const was = drag;
    drag = null;
    if (!was || was.moved || !told) return;
    const turn = was.target.closest("[data-turn]");
    const message = was.target.closest("[data-message]");
    if (turn) focusTurn(Number(turn.dataset.turn));
    else if (message) onMessage(told.messages[Number(message.dataset.message)]);
    else onSeek(at(event.clientX - stage.getBoundingClientRect().left));
  });
  stage.addEventListener("pointercancel", () => (drag = null));
  stage.addEventListener(
    "wheel",
    (event) => {
      if (!told || !(event.ctrlKey || event.shiftKey || event.altKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))) return;
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && !event.ctrlKey) pan(event.deltaX / 600);
      else zoom(Math.exp((event.deltaY || event.deltaX) / 300), at(event.clientX - stage.getBoundingClientRect().left));
    },
    { passive: false },
  );
  const move = (event) => {
    if (!told || !(event.buttons & 1)) return;
    const box = strip.getBoundingClientRect();
    const middle = ((event.clientX - box.left - LANES.left) / (box.width - LANES.left - LANES.right)) * told.end;
    const half = view.t1 - view.t0 >= told.end * 0.99 ? told.end / 16 : (view.t1 - view.t0) / 2;
    look(middle - half, middle + half);
  };
  strip.addEventListener("pointerdown", (event) => (strip.setPointerCapture(event.pointerId), move(event)));
  strip.addEventListener("pointermove", move);
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button")) return;
    const work = {
      ArrowLeft: () => pan(-0.2),
      ArrowRight: () => pan(0.2),
      "+": () => zoom(0.5),
      "=": () => zoom(0.5),
      "-": () => zoom(2),
      0: fit,
      Home: () => pan(-1e6),
      End: () => pan(1e6),
      n: () => turnBy(1),
      p: () => turnBy(-1),
    }[event.key];
    if (!work || !told) return;
    event.preventDefault();
    work();
  });
  new ResizeObserver(([entry]) => {
    known = Math.max(200, entry.contentRect.width);
    draw();
  }).observe(stage);

  return {
    element,
    focusTurn,
    show(next) {
      const whole = !told || view.t1 - view.t0 >= told.end * 0.99;
      told = next;
      element.setAttribute("aria-label", summary(told));
      put(marks_, legend(told));
      marks_.hidden = !marks_.childElementCount;
      if (whole) fit();
      else schedule();
    },
    cursor(time) {
      tip.hidden = true;
      place(hair, time);
    },
    playhead(time, follow) {
      lastHead = time;
      if (follow && time !== null && (time > view.t1 || time < view.t0)) look(time, time + (view.t1 - view.t0));
      place(head, time);
    },
  };
}

function summary(told) {
  const keys =
    "Plus and minus zoom, arrows move, 0 shows the whole call, n and p go through the turns. The table of turns below has all figures.";
  const held = `${told.turns.length} turns, ${told.call.barge_ins.length} interruptions by the caller`;
  return `Timeline of ${duration(told.end)}: ${held}. ${keys}`;
}

/** What the marks mean: of those that not every call has, only the ones that are there. */
function legend(told) {
  const { call, tracks } = told;
  const lost = ["caller", "agent"].some((side) => tracks?.[side]?.lost?.length);
  const slowest = told.turns.reduce((most, { turn }) => (turn.kind === "response" ? Math.max(most, turn.response_latency_ms) : most), -1);
  const marks = [
    ["caller", "caller", told.caller.length],
    ["agent", "agent", told.agent.length],
    ["overlap", "both at once", told.overlaps.length],
    ["good", "up to 800 ms", slowest >= 0],
    ["slow", "to 1.5 s", slowest >= 0],
    ["bad", "longer", slowest >= 0],
    ["sdk", "as the SDK reports", told.turns.some((each) => each.sdk)],
    ["loss", "lost audio", lost],
    ["jitter", "jitter, to 20 ms", ["caller", "agent"].some((side) => tracks?.[side]?.jitter?.length)],
    ["barge", "caller speaks up", call.barge_ins.length],
  ];
  return marks.map(([css, text, there]) => Boolean(there) && h("li", {}, h("span", { class: `swatch ${css}`, "aria-hidden": "true" }), text));
}
