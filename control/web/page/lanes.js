// The drawing of the timeline's lanes, each from the scene and the frame in sight. Nothing outside the frame is made.

import { plain, s } from "./dom.js";
import { sentence } from "./figures.js";
import { felt, moment, ms, stretch } from "./format.js";
import { BARGE_INS, BARGE_SAYS } from "./words.js";

const narrow = matchMedia("(max-width: 40rem)");
const room = () => (narrow.matches ? 44 : 76);
export const LANES = {
  left: room(),
  right: 10,
  axis: 20,
  sip: 16,
  A: 24,
  B: 42,
  caller: 66,
  agent: 130,
  speech: 50,
  latency: 196,
  bars: 76,
  height: 290,
};
narrow.addEventListener("change", () => (LANES.left = room()));
const FLOOR_DB = -72;
const MOST_APART = 200;
const JITTER_PX = 8;
const JITTER_MS = 20;

/** The items of an ordered list that touch the frame. */
function seen(list, frame, from, to) {
  return list.filter((each) => to(each) >= frame.t0 && from(each) <= frame.t1);
}

/** Steps that a person counts in. */
export function ticks(t0, t1, room) {
  const wanted = (t1 - t0) / Math.max(2, room);
  const sizes = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5];
  const size = sizes.find((each) => each >= wanted) ?? 72e5;
  const found = [];
  for (let at = Math.ceil(t0 / size) * size; at <= t1; at += size) found.push(at);
  return { size, found };
}

function short(at, size) {
  const [, rest, fraction] = /^(.*)\.(\d+)$/.exec(moment(at));
  return size >= 1000 ? `${rest}${/:/.test(rest) ? "" : " s"}` : `${rest}.${fraction.slice(0, size >= 100 ? 1 : size >= 10 ? 2 : 3)}`;
}

export function axis(told, frame) {
  const { size, found } = ticks(frame.t0, frame.t1, frame.w / 90);
  const lane = (y, text) => s("text", { class: "lane", x: 0, y }, text);
  const marks = found.map((at) => [
    s("line", { class: "grid", x1: frame.x(at), x2: frame.x(at), y1: LANES.axis - 4, y2: LANES.height }),
    frame.x(at) < frame.w - LANES.right - 44 && s("text", { class: "tick", x: frame.x(at) + 3, y: 12 }, short(at, size)), // else cut off
  ]);
  const answer =
    told.wasAnswered && told.answered >= frame.t0 && told.answered <= frame.t1
      ? [
          s("line", { class: "answer", x1: frame.x(told.answered), x2: frame.x(told.answered), y1: LANES.axis - 6, y2: LANES.height }),
          s("text", { class: "answer", x: frame.x(told.answered) + 4, y: LANES.height - 4 }, "answered"),
        ]
      : null;
  return s(
    "g",
    {},
    marks,
    answer,
    lane(LANES.A + 10, "SIP A"),
    lane(LANES.B + 10, "SIP B"),
    lane(LANES.caller + 28, "caller"),
    lane(LANES.agent + 28, "agent"),
    lane(LANES.latency + 40, "latency"),
  );
}

export function messageTicks(told, frame) {
  let last = { A: -9, B: -9 };
  const made = [];
  told.messages.forEach((row, i) => {
    if (row.at < frame.t0 || row.at > frame.t1) return;
    const px = frame.x(row.at);
    if (px - last[row.leg] < 2) return; // a thousand ticks on one pixel tell no more than one
    last = { ...last, [row.leg]: px };
    const bad = !row.told.request && row.told.status >= 400 && ![401, 407].includes(row.told.status);
    const y = LANES[row.leg];
    made.push(
      s("path", {
        class: `sip${bad ? " bad" : ""}${row.told.request ? " request" : ""}`,
        d: row.rightward ? `M${px - 3} ${y + 2}l6 5l-6 5z` : `M${px + 3} ${y + 2}l-6 5l6 5z`,
        data: { message: i },
      }),
    );
  });
  return s("g", {}, made);
}

export function bands(told, frame) {
  const rect = (css, [start, end], y, height, tip) => {
    const [left, right] = [Math.max(frame.x(start), LANES.left), Math.min(frame.x(end), frame.w - LANES.right)];
    return s("rect", { class: css, x: left, y, width: Math.max(1, right - left), height, rx: 2, data: { tip, start, end } });
  };
  const side = (name) => {
    const found = seen(
      told[name],
      frame,
      (each) => each[0],
      (each) => each[1],
    );
    if (found.length > MOST_APART) return s("path", { class: `speech ${name}`, d: together(found, frame, LANES[name]) });
    return found.map((each) => rect(`speech ${name}`, each, LANES[name], LANES.speech, `${name} speaks ${stretch(each[1] - each[0])}`));
  };
  const both = seen(
    told.overlaps,
    frame,
    (each) => each[0],
    (each) => each[1],
  ).map((each) =>
    rect("overlap", each, LANES.caller, LANES.agent + LANES.speech - LANES.caller, `both speak, ${stretch(each[1] - each[0])}`),
  );
  const one = told.turns.find((each) => each.turn.n === frame.selected);
  const chosen =
    one && one.end >= frame.t0 && one.start <= frame.t1
      ? rect("chosen", [one.start, one.end], LANES.axis, LANES.height - LANES.axis, sentence(one))
      : null;
  return s("g", {}, chosen, side("caller"), side("agent"), both);
}

/** So many stretches that nobody tells one from the next: one shape. */
function together(found, frame, y) {
  const each = ([start, end]) => {
    const left = Math.max(frame.x(start), LANES.left).toFixed(1);
    const width = Math.max(0.5, Math.min(frame.x(end), frame.w - LANES.right) - left).toFixed(1);
    return `M${left} ${y}h${width}v${LANES.speech}h-${width}z`;
  };
  return found.map(each).join("");
}

/** Levels as a mirrored shape around the middle of the lane. */
export function levels(told, frame) {
  const shape = (name) => {
    const track = told.tracks?.[name]?.levels;
    if (!track?.db.length) return null;
    const start = (i) => told.answered + (track.from_ms ?? 0) + i * track.step_ms;
    const first = Math.max(0, Math.floor((frame.t0 - start(0)) / track.step_ms) - 1);
    const last = Math.min(track.db.length - 1, Math.ceil((frame.t1 - start(0)) / track.step_ms) + 1);
    const middle = LANES[name] + LANES.speech / 2;
    const [up, down] = [[], []];
    for (let i = first; i <= last; i += 1) {
      const tall = (Math.max(0, 1 - track.db[i] / FLOOR_DB) ** 1.4 * LANES.speech) / 2;
      const px = Math.min(frame.w - LANES.right, Math.max(LANES.left, frame.x(start(i) + track.step_ms / 2)));
      up.push(`${px.toFixed(1)} ${(middle - Math.max(0.4, tall)).toFixed(1)}`);
      down.push(`${px.toFixed(1)} ${(middle + Math.max(0.4, tall)).toFixed(1)}`);
    }
    return up.length ? s("path", { class: `level ${name}`, d: `M${up.join("L")}L${down.reverse().join("L")}Z` }) : null;
  };
  return s("g", {}, shape("caller"), shape("agent"));
}

export function marks(told, frame) {
  const { call } = told;
  const inside = (at) => at >= frame.t0 && at <= frame.t1;
  const keys = ["caller", "agent"]
    .flatMap((side) => (call.media[side]?.dtmf ?? []).map((each) => ({ ...each, side, at: each.start_ms + told.answered })))
    .filter((each) => inside(each.at));
  const lost = ["caller", "agent"]
    .flatMap((side) =>
      (told.tracks?.[side]?.lost ?? []).map(([start, end]) => ({ side, start: start + told.answered, end: end + told.answered })),
    )
    .filter((each) => each.end >= frame.t0 && each.start <= frame.t1);
  const barges = call.barge_ins
    .map((each) => ({
      ...each,
      at: each.caller_start_ms + told.answered,
      stop: each.agent_stop_ms === null ? null : each.agent_stop_ms + told.answered,
    }))
    .filter((each) => inside(each.at));
  return s(
    "g",
    {},
    lost.map((each) =>
      s("rect", {
        class: "loss",
        x: frame.x(each.start) - 1,
        y: LANES[each.side] + LANES.speech - 8,
        width: Math.max(2.5, frame.x(each.end) - frame.x(each.start)),
        height: 8,
        data: { tip: `audio of the ${each.side} lost, ${stretch(each.end - each.start)}` },
      }),
    ),
    joined(keys, frame).map((each) =>
      s(
        "g",
        { class: "key", data: { tip: plain(`${each.digits.length > 1 ? "keys" : "key"} ${each.digits} of the ${each.side}`) } },
        s("rect", { x: each.px - 6, y: LANES[each.side] + 2, width: 6 + 7 * each.digits.length, height: 14, rx: 3 }),
        s("text", { x: each.px - 3, y: LANES[each.side] + 13 }, each.digits),
      ),
    ),
    barges.map((each) => {
      const silent = each.latency_ms === null ? "" : `, silent after ${ms(each.latency_ms)}`;
      const tip = `${BARGE_INS[each.kind]}: ${BARGE_SAYS[each.kind]}${silent}`;
      const px = frame.x(each.at);
      const stop =
        each.stop === null
          ? null
          : s("line", { class: "barge", x1: px, x2: frame.x(Math.min(each.stop, frame.t1)), y1: LANES.agent - 3, y2: LANES.agent - 3 });
      return s("g", { class: `barge ${each.kind}`, data: { tip } }, s("path", { d: `M${px - 5} ${LANES.caller - 7}h10l-5 7z` }), stop);
    }),
  );
}

/** How unevenly a side's packets came, as steps along the foot of its lane; as high as a packet lasts is the most that is drawn. */
export function jitters(told, frame) {
  const steps = (side) => {
    let since = told.answered;
    return (told.tracks?.[side]?.jitter ?? []).map(([until, jitter]) => {
      const step = { side, jitter, start: since, end: until + told.answered };
      since = step.end;
      return step;
    });
  };
  const shown = [...steps("caller"), ...steps("agent")].filter((each) => each.end >= frame.t0 && each.start <= frame.t1);
  return s(
    "g",
    {},
    shown.map(({ side, jitter, start, end }) => {
      const [left, right] = [Math.max(frame.x(start), LANES.left), Math.min(frame.x(end), frame.w - LANES.right)];
      const height = Math.max(0.5, Math.min(1, jitter / JITTER_MS) * JITTER_PX);
      const tip = `packets of the ${side} came unevenly by ${jitter.toFixed(1)} ms (jitter)`;
      const y = LANES[side] + LANES.speech + JITTER_PX + 2 - height;
      return s("rect", { class: "jitter", x: left, y, width: Math.max(0.5, right - left), height, data: { tip, start, end } });
    }),
  );
}

/** Keys so close that their marks would cover each other share one. */
function joined(keys, frame) {
  const found = [];
  for (const { digit, side, at } of keys) {
    const px = frame.x(at);
    const last = found.at(-1);
    if (last && last.side === side && px < last.px + 7 * last.digits.length + 3) last.digits += digit;
    else found.push({ digits: digit, side, px });
  }
  return found;
}

export function latencyBars(told, frame) {
  const base = LANES.latency + LANES.bars;
  const tall = (value) => Math.min(1, Math.max(0, value) / told.ceiling) * (LANES.bars - 14);
  const shown = seen(
    told.turns,
    frame,
    (each) => Math.min(each.from, each.to),
    (each) => Math.max(each.from, each.to, each.from + (each.sdk?.reported ?? 0)),
  );
  const roomy = shown.length * 34 < frame.w - LANES.left;
  let free = 0;
  const bar = (each) => {
    const { turn, sdk } = each;
    const [from, to] = [frame.x(Math.min(each.from, each.to)), frame.x(Math.max(each.from, each.to))];
    const width = Math.max(2, to - from);
    const height = turn.kind === "response" ? Math.max(2, tall(turn.response_latency_ms)) : 6;
    const css = turn.kind === "response" ? felt(turn.response_latency_ms) : "early";
    const text = turn.kind === "response" ? String(Math.round(turn.response_latency_ms)) : turn.kind === "overlap" ? "overlap" : "cuts in";
    const left = from + width / 2 - text.length * 3.4;
    const fits = roomy && left > free;
    if (fits) free = left + text.length * 6.8 + 4;
    const hollow =
      sdk &&
      s("rect", {
        class: "sdk",
        x: frame.x(each.from),
        y: base - tall(sdk.reported),
        width: Math.max(2, sdk.reported * frame.per),
        height: Math.max(1, tall(sdk.reported)),
      });
    return s(
      "g",
      { class: "turn", data: { turn: turn.n } },
      s("rect", { class: `bar felt ${css}`, x: from, y: base - height, width, height }),
      hollow,
      fits && s("text", { class: "value", x: from + width / 2, y: base - height - 3 }, text),
    );
  };
  const limit = base - tall(800);
  return s(
    "g",
    {},
    s("line", { class: "base", x1: LANES.left, x2: frame.w - LANES.right, y1: base, y2: base }),
    told.turns.length > 0 && s("line", { class: "limit", x1: LANES.left, x2: frame.w - LANES.right, y1: limit, y2: limit }),
    told.turns.length > 0 && s("text", { class: "tick", x: LANES.left - 3, y: limit + 3, "text-anchor": "end" }, "800"),
    shown.map(bar),
  );
}

/** What a mark in the lanes stands for, in words. */
export function meaning(told, mark) {
  if (mark.dataset.turn) return sentence(told.turns.find((each) => each.turn.n === Number(mark.dataset.turn)));
  const row = told.messages[Number(mark.dataset.message)];
  return row ? plain(`${row.label}, leg ${row.leg}, at ${moment(row.at)} s`) : mark.dataset.tip;
}

/** The whole call in little, with the frame marked. */
export function overview(strip, told, view, w) {
  const height = 26;
  const x = (at) => LANES.left + (at / told.end) * (w - LANES.left - LANES.right);
  strip.setAttribute("width", w);
  strip.setAttribute("height", height);
  strip.setAttribute("viewBox", `0 0 ${w} ${height}`);
  const columns = new Map(); // one bar a pixel, the slowest turn in it
  for (const { turn, from } of told.turns) {
    const px = Math.round(x(from));
    const known = columns.get(px);
    if (turn.kind === "response" && (known === undefined || turn.response_latency_ms > known)) columns.set(px, turn.response_latency_ms);
  }
  const bars = [...columns].map(([px, value]) =>
    s("rect", {
      class: `felt ${felt(value)}`,
      x: px - 1,
      width: 2,
      y: height - Math.max(3, Math.min(1, value / told.ceiling) * height),
      height: Math.max(3, Math.min(1, value / told.ceiling) * height),
    }),
  );
  strip.replaceChildren(
    s("rect", { class: "ground", x: LANES.left, y: 0, width: w - LANES.left - LANES.right, height }),
    ...bars,
    s("rect", { class: "window", x: x(view.t0), y: 0.5, width: Math.max(4, x(view.t1) - x(view.t0)), height: height - 1, rx: 3 }),
  );
}
