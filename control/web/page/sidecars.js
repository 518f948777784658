// The sidecars: which are there, what they do, and which routes they go by.

import { get } from "./api.js";
import { h, paced, put, say } from "./dom.js";
import { ago, count, exactly } from "./format.js";
import { live } from "./live.js";

const STALE_MS = 120_000;

export async function show(main, place, signal) {
  const host = h("div", { class: "cards" });
  const read = async () => {
    const { sidecars } = await get("/v1/sidecars", signal);
    const nothing = h("p", { class: "empty" }, "No sidecar has been heard of. Set control.url in a sidecar's file to this address.");
    put(host, sidecars.length ? sidecars.map(card) : nothing);
  };
  await read();
  put(main, h("h1", {}, "Sidecars"), host);
  const again = paced(() => read().catch((error) => !signal.aborted && say(error.message)), 2000);
  live.addEventListener("call", again, { signal });
  const clock = setInterval(again, 10_000);
  signal.addEventListener("abort", () => clearInterval(clock));
}

/** What older controls do not tell is left out. */
function state(each) {
  if (each.draining) return ["wait", "draining"];
  if (each.not_ready?.length) return ["bad", "not ready"];
  if (each.connected !== undefined) return each.connected ? ["good", "connected"] : ["wait", "not connected"];
  return Date.now() - new Date(each.last_seen_at) < STALE_MS ? ["good", "heard"] : ["wait", "quiet"];
}

function card(each) {
  const [tone, word] = state(each);
  const facts = [
    ["live calls", h("a", { href: `#/calls?range=all&sidecar=${encodeURIComponent(each.name)}` }, count(each.live_calls))],
    ["last heard", h("time", { datetime: each.last_seen_at, title: exactly(each.last_seen_at) }, ago(each.last_seen_at))],
    ["first heard", h("time", { datetime: each.first_seen_at, title: exactly(each.first_seen_at) }, ago(each.first_seen_at))],
    ["facts", count(each.facts)],
    ["software", each.software && h("bdi", {}, each.software)],
    ["clock", each.clock && typeof each.clock.offset_ms === "number" && `${each.clock.offset_ms.toFixed(1)} ms off`],
    ["dropped", each.drops && tally(each.drops)],
    ["ended", each.ended_calls && tally(each.ended_calls)],
    ["routes", each.routes?.length > 0 && h("bdi", {}, each.routes.join(", "))],
    ["configuration", each.configuration && configuration(each.configuration)],
  ];
  const shown = facts.filter(([, value]) => value);
  return h(
    "section",
    { class: "card", "aria-label": `Sidecar ${each.name}`, data: { sidecar: each.name } },
    h("h2", {}, h("bdi", {}, each.name), " ", h("span", { class: `chip ${tone}` }, word)),
    each.not_ready?.length > 0 &&
      h(
        "ul",
        { class: "warn" },
        each.not_ready.map((why) => h("li", {}, why)),
      ),
    h(
      "dl",
      { class: "facts" },
      shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
  );
}

function tally(counts) {
  return Object.entries(counts)
    .filter(([, n]) => n)
    .map(([name, n]) => `${count(n)} ${name.replaceAll("_", " ")}`)
    .join(", ");
}

function configuration({ state: how, source, version, wanted, reason }) {
  if (source === "file" && how === "none") return "its own file";
  const words = {
    applied: `version ${version}`,
    pending: `version ${version ?? "–"}, waits for ${wanted}`,
    refused: `version ${version ?? "–"}, refused ${wanted}`,
    none: "its own file",
  }[how];
  return [words, reason && h("span", { class: "under warn" }, h("bdi", {}, reason))];
}
