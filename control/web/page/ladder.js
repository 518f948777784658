// The ladder: caller, trunkside, agent; both legs side by side, one row a message, on the call's clock.

import { h, plain } from "./dom.js";
import { moment, ms, party, stretch } from "./format.js";
import { virtual } from "./virtual.js";

const ROW = 34;

/** A short name of an address for the head of a lifeline. */
function endpoint(row, side) {
  return row ? plain(side === "remote" ? row.message.remote : row.message.local) : "";
}

function tone(told) {
  if (told.request) return "request";
  if (told.status < 200) return "provisional";
  if (told.status < 300) return "success";
  return told.status === 401 || told.status === 407 ? "challenge" : "failure";
}

/** `onChoose(row)`, `onHover(row)`; returns {element, show(rows, call), choose(row)}. */
export function ladder({ onChoose, onHover }) {
  let rows = [];
  let chosen = null;
  const hint = h("p", { class: "hint", "aria-hidden": "true" });
  const ends = h("div", { class: "ends" });
  const list = virtual({
    height: ROW,
    label: "SIP messages in order of time. Arrow keys choose one.",
    id: "ladder",
    draw: (row, i) => draw(row, rows[i - 1]),
    chosen: (row) => {
      chosen = row;
      hint.textContent = deltas(row, rows, null);
      onChoose(row);
    },
    hovered: (row) => {
      hint.textContent = row ? deltas(row, rows, chosen) : chosen ? deltas(chosen, rows, null) : RESTING;
      onHover(row);
    },
  });
  hint.textContent = RESTING;
  const element = h("div", { class: "ladder" }, ends, list.element, hint);
  return {
    element,
    show(next, call) {
      rows = next;
      const a = next.find((row) => row.kind === "message" && row.leg === "A");
      const b = next.find((row) => row.kind === "message" && row.leg === "B");
      ends.replaceChildren(
        h("span", { class: "axis" }, "time, s"),
        h("span", { class: "axis" }, "Δ"),
        h("span", { class: "end" }, h("b", {}, "caller"), h("small", {}, h("bdi", {}, endpoint(a, "remote") || party(call.from)))),
        h("span", { class: "end" }, h("b", {}, "trunkside"), h("small", {}, plain(call.sidecar))),
        h("span", { class: "end" }, h("b", {}, "agent"), h("small", {}, h("bdi", {}, endpoint(b, "remote") || "not dialled"))),
      );
      list.rows(next);
    },
    choose(row, middle = true) {
      const i = rows.indexOf(row);
      if (i >= 0) list.choose(i, middle);
    },
  };
}

const RESTING = "Hover a message for its distance to the others; ↑ ↓ choose one.";

/** How far a row is from its neighbours, from the chosen one, and from itself on the other leg. */
export function deltas(row, rows, chosen) {
  const i = rows.indexOf(row);
  const found = [`at ${moment(row.at)} s`];
  if (i > 0) found.push(`Δ ${stretch(row.at - rows[i - 1].at)} after the row before`);
  if (row.twin)
    found.push(
      row.twin.at <= row.at
        ? `${stretch(row.at - row.twin.at)} through trunkside`
        : `left ${stretch(row.twin.at - row.at)} later on leg ${row.twin.leg}`,
    );
  if (chosen && chosen !== row)
    found.push(`${stretch(Math.abs(row.at - chosen.at))} ${row.at < chosen.at ? "before" : "after"} the chosen one`);
  if (row.copies?.length) found.push(`repeated after ${row.copies.map((at) => stretch(at - row.at)).join(", ")}`);
  return found.join(" · ");
}

function draw(row, before) {
  const gap = before ? row.at - before.at : 0;
  // The bar grows with the logarithm of the gap: from 1 ms, where it begins, to 30 s, where it is full.
  const share = gap > 1 ? Math.min(1, Math.log10(gap) / Math.log10(30_000)) : 0;
  const time = h("span", { class: "time" }, moment(row.at));
  const delta = h(
    "span",
    { class: `delta${gap >= 1000 ? " long" : ""}`, style: { "--share": share.toFixed(3) } },
    before ? stretch(gap) : "",
  );
  const lanes = row.kind === "message" ? arrow(row) : band(row);
  return h("div", { class: `row ${row.kind}`, "aria-label": spoken(row) }, time, delta, lanes);
}

function arrow(row) {
  const marks = [
    row.told.sdp && h("span", { class: "mark" }, "SDP"),
    row.copies.length > 0 && h("span", { class: "mark again", title: "Sent again" }, `×${row.copies.length + 1}`),
    row.again && h("span", { class: "mark again" }, "again"),
  ];
  return h(
    "span",
    { class: "lanes" },
    h(
      "span",
      { class: `arrow leg${row.leg} ${row.rightward ? "right" : "left"} ${tone(row.told)}` },
      h("span", { class: "label" }, h("bdi", {}, row.label), marks),
    ),
  );
}

function band(row) {
  if (row.kind !== "talk") return h("span", { class: `lanes band ${row.kind}` }, h("span", {}, h("bdi", {}, row.label)));
  const many = row.turns.length === 1 ? `turn ${row.turns[0].n}` : `turns ${row.turns[0].n}–${row.turns.at(-1).n}`;
  const fast = row.n ? `, median ${ms(row.p50)}` : "";
  const slow = row.n > 1 ? `, slowest ${ms(row.max)} (turn ${row.slow.n})` : "";
  return h("span", { class: "lanes band talk" }, h("span", {}, `conversation: ${many}${fast}${slow}`));
}

function spoken(row) {
  if (row.kind !== "message") return plain(row.kind === "talk" ? `conversation, ${row.turns.length} turns` : row.label);
  const [from, to] = row.leg === "A" ? ["caller", "trunkside"] : ["trunkside", "agent"];
  const way = row.rightward ? `${from} to ${to}` : `${to} to ${from}`;
  return plain(`${row.label}, ${way}, at ${moment(row.at)} seconds${row.copies.length ? `, sent ${row.copies.length + 1} times` : ""}`);
}
