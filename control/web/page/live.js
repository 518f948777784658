// One stream of events for the whole page. It is read with fetch, because an EventSource cannot send the token.

import { headers, session } from "./api.js";

const LONGEST_WAIT = 15_000;

export const live = new EventTarget();
export let state = "off";

function become(next) {
  if (next === state) return;
  state = next;
  live.dispatchEvent(new Event("state"));
}

/** Blocks of `name: value` lines, as the HTML standard reads an event stream. */
export function* blocks(text) {
  for (const block of text.split(/\n\n/)) {
    const event = { name: "message", data: [], id: null };
    for (const line of block.split("\n")) {
      const [, name, value] = /^([a-z]*):? ?(.*)$/.exec(line) ?? [];
      if (name === "event") event.name = value;
      else if (name === "data") event.data.push(value);
      else if (name === "id") event.id = value;
    }
    yield { name: event.name, id: event.id, data: event.data.join("\n") };
  }
}

let last = null;

async function follow(signal) {
  const answer = await fetch("/v1/events", { headers: headers(last ? { "Last-Event-ID": last } : {}), signal, cache: "no-store" });
  if (!answer.ok) return answer.status === 401 || answer.status === 403 ? "refused" : "again";
  become("on");
  if (last) live.dispatchEvent(new Event("back"));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return "again";
    rest += value;
    const end = rest.lastIndexOf("\n\n");
    if (end < 0) continue;
    const whole = rest.slice(0, end);
    rest = rest.slice(end + 2);
    for (const { name, id, data } of blocks(whole)) {
      if (id) last = id;
      if (name === "call") live.dispatchEvent(new CustomEvent("call", { detail: JSON.parse(data) }));
      else if (name === "gap" || name === "dropped") live.dispatchEvent(new Event("back"));
    }
  }
}

let running = null;

/** Follow the events until the page goes; begin anew when the token changes. */
export async function watch() {
  running?.abort();
  const own = (running = new AbortController());
  let wait = 500;
  while (!own.signal.aborted) {
    const began = performance.now();
    const how = await follow(own.signal).catch(() => "again");
    if (own.signal.aborted) return;
    become("off");
    if (how === "refused") return;
    wait = performance.now() - began > 5000 ? 500 : Math.min(LONGEST_WAIT, wait * 2);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

session.addEventListener("token", () => {
  last = null;
  watch();
});
