// One SIP message as it was on the wire, with what was redacted marked as such, and with what changed on the way through.

import { h, plain, say } from "./dom.js";
import { exactly, moment, size, stretch } from "./format.js";
import { carriesIdentity, crossing, parts, redactions } from "./sip.js";

/** The pane for a row of the ladder. `go(row)` chooses another. */
export function message(row, go) {
  if (row.kind !== "message")
    return h("div", { class: "pane" }, h("p", { class: "dim" }, row.label ?? "Conversation: see the timeline below."));
  const { message: wire } = row;
  const ends = wire.direction === "in" ? [wire.remote, wire.local] : [wire.local, wire.remote];
  const told = parts(wire.text);
  const across = row.twin ? crossing(told.fields, parts(row.twin.message.text).fields) : null;
  const source = wire.direction === "in"; // the other one of the two is what became of this one
  const copy = h("button", { type: "button", class: "quiet", onclick: () => take(wire.text) }, "Copy");
  const twin = row.twin && h("button", { type: "button", class: "quiet", onclick: () => go(row.twin) }, `On leg ${row.twin.leg}`);
  return h(
    "div",
    { class: "pane" },
    h("header", {}, h("h3", {}, h("bdi", {}, row.label)), h("span", { class: "buttons" }, twin, copy)),
    h(
      "p",
      { class: "dim meta" },
      h("span", {}, `leg ${wire.leg}, ${wire.direction === "in" ? "received" : "sent"}`),
      h("span", { class: "mono" }, h("bdi", {}, ends[0]), " → ", h("bdi", {}, ends[1])),
      h("span", {}, `${wire.transport}, ${size(new TextEncoder().encode(wire.text).length)}`),
      h("time", { datetime: wire.at, title: exactly(wire.at) }, `${moment(row.at)} s`),
      row.copies.length > 0 && h("span", { class: "warn" }, `sent again after ${row.copies.map((at) => stretch(at - row.at)).join(", ")}`),
    ),
    h("pre", { class: "wire", tabindex: "0", "aria-label": "The message" }, lines(told, across)),
    across &&
      h(
        "p",
        { class: "key dim" },
        h("span", { class: "added" }, source ? "not carried" : "added"),
        h("span", { class: "changed" }, "changed"),
        source ? ` on the way to leg ${row.twin.leg}` : ` on the way from leg ${row.twin.leg}`,
        across.gone.length ? (source ? "; added: " : "; not carried: ") : "",
        across.gone.length > 0 && h("bdi", {}, [...new Set(across.gone.map(([name]) => name))].join(", ")),
      ),
  );
}

function lines(told, across) {
  const found = [h("span", { class: "start" }, plain(told.start)), "\n"];
  told.fields.forEach(([name, value], i) => {
    const css = [across?.marks[i] ?? "", carriesIdentity(name) ? "identity" : ""].join(" ").trim();
    found.push(h("span", { class: css || null }, h("b", {}, plain(name)), ": ", shown(value)), "\n");
  });
  if (told.body.trim()) found.push("\n", h("span", { class: "body" }, shown(told.body)));
  return found;
}

function shown(text) {
  return redactions(text).map(([piece, hidden]) =>
    hidden ? h("span", { class: "redacted", title: "Redacted: the secret itself is not stored here" }, plain(piece)) : plain(piece),
  );
}

async function take(text) {
  await navigator.clipboard?.writeText(text);
  say("Message copied");
}
