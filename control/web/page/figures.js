// Figures that are worked out here, because the API gives what they are made of. Pure.

import { ms } from "./format.js";

/** Of a call that is going on there are no final percentiles yet: those of the turns so far. */
export function latencies(call) {
  if (call.speech.response_latency_ms.n) return call.speech.response_latency_ms;
  const found = call.turns
    .filter((turn) => turn.kind === "response")
    .map((turn) => turn.response_latency_ms)
    .sort((a, b) => a - b);
  if (!found.length) return { n: 0, p50: null, p90: null, max: null };
  const at = (share) => found[Math.max(0, Math.ceil(share * found.length) - 1)];
  return { n: found.length, p50: at(0.5), p90: at(0.9), max: found.at(-1) };
}

/** The SDK's own latency for each turn by its number: {n: {reported, difference}}. */
export function reportedByTurn(call) {
  const said = (call.reported.turns ?? []).filter((each) => each.e2e_latency_ms !== null);
  return new Map(said.map((each) => [each.turn, { reported: each.e2e_latency_ms, difference: each.difference_ms }]));
}

/** Speech of one side in call time: as it was measured, or, before the call has ended, as its turns tell it. */
export function segments(call, timeline, side) {
  const measured = timeline?.tracks?.[side]?.segments;
  if (measured) return measured;
  return call.turns.map((turn) => [turn[`${side}_start_ms`], turn[`${side}_end_ms`]]);
}

/** Where both of two ordered lists of stretches are. */
export function overlaps(one, other) {
  const found = [];
  for (let i = 0, j = 0; i < one.length && j < other.length;) {
    const [start, end] = [Math.max(one[i][0], other[j][0]), Math.min(one[i][1], other[j][1])];
    if (end > start) found.push([start, end]);
    if (one[i][1] < other[j][1]) i += 1;
    else j += 1;
  }
  return found;
}

/** A turn in words. */
export function sentence({ turn, sdk }) {
  const said = {
    response: "agent answers after",
    overlap: "agent began before the caller's end:",
    agent_interruption: "agent interrupts the caller:",
  }[turn.kind];
  const apart = sdk ? `; SDK reports ${ms(sdk.reported)}, wire minus SDK ${ms(sdk.difference)}` : "";
  const give = turn.kind === "response" ? ` ± ${Math.round(turn.uncertainty_ms)}` : "";
  const cut = turn.interrupted ? ", then interrupted" : "";
  return `turn ${turn.n}: ${said} ${ms(turn.response_latency_ms)}${give}${cut}${apart}`;
}
