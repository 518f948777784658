// The list of calls: live, filtered by what the address says, with a summary of all that the filter holds.

import { get, query } from "./api.js";
import { result, verdict } from "./chips.js";
import { h, paced, plain, say } from "./dom.js";
import { latencies } from "./figures.js";
import { duration, exactly, felt, ms, party, percent, when } from "./format.js";
import { live } from "./live.js";
import { summary } from "./summary.js";
import { OUTCOMES } from "./words.js";

const PAGE = 50;
const RANGES = {
  "1h": ["last hour", 3600e3],
  "24h": ["last 24 hours", 86_400e3],
  "7d": ["last 7 days", 604_800e3],
  "30d": ["last 30 days", 2_592_000e3],
  all: ["all time", null],
};
const FILTERS = ["outcome", "kind", "status", "route", "sidecar", "min_latency_ms", "sip_call_id"];

/** The parameters of the API for the filters in the address. */
export function wanted(asked, now = Date.now()) {
  const found = {};
  const span = (RANGES[asked.get("range")] ?? RANGES["24h"])[1];
  if (span !== null) found.since = new Date(now - span).toISOString();
  for (const name of FILTERS) if (asked.get(name)) found[name] = asked.get(name);
  return found;
}

export async function show(main, place, signal) {
  const asked = place.query;
  const body = h("tbody");
  const table = h("table", { class: "calls" }, h("caption", { class: "hidden" }, "Calls, newest first"), head(), body);
  const more = h("button", { type: "button", class: "more", hidden: true }, "Show older calls");
  const nothing = h("div", { class: "empty", hidden: true });
  const strip = h("section", { class: "strip", "aria-label": "Summary" });
  const state = { calls: [], next: null, pages: 1, rows: new Map(), first: true };

  const read = async () => {
    const asking = asked.toString();
    const given = wanted(asked);
    let [calls, cursor] = [[], null];
    for (let page = 0; page < state.pages; page += 1) {
      const answer = await get(`/v1/calls${query({ ...given, limit: PAGE, cursor })}`, signal);
      calls = calls.concat(answer.calls);
      cursor = answer.next;
      if (!cursor) break;
    }
    if (asked.toString() !== asking) return; // the filters were changed meanwhile: another answer is on its way
    Object.assign(state, { calls, next: cursor });
    draw();
  };
  const sum = async () => {
    const asking = asked.toString();
    const told = await get(`/v1/summary${query(wanted(asked))}`, signal);
    if (asked.toString() === asking) summary(strip, told, state.calls);
  };
  const draw = () => {
    fill(body, state);
    more.hidden = !state.next;
    nothing.hidden = state.calls.length > 0;
    if (!state.calls.length) nothing.replaceChildren(...emptiness(asked));
    table.hidden = !state.calls.length;
  };
  const guarded = (work) => () => work().catch((error) => !signal.aborted && say(error.message));
  const change = (name, value) => {
    if (value) asked.set(name, value);
    else asked.delete(name);
    const text = asked.toString();
    history.replaceState(null, "", text ? `#/calls?${text}` : "#/calls");
    state.pages = 1;
    guarded(read)();
    guarded(sum)();
  };
  more.addEventListener(
    "click",
    guarded(async () => {
      state.pages += 1;
      await read();
    }),
  );

  await read();
  main.replaceChildren(h("h1", { class: "hidden" }, "Calls"), filters(asked, change), strip, table, nothing, more);
  guarded(sum)();
  const again = paced(guarded(read), 700);
  const sumAgain = paced(guarded(sum), 4000);
  for (const name of ["call", "back"]) {
    live.addEventListener(name, () => (again(), sumAgain()), { signal });
  }
  const clock = setInterval(() => tick(body), 1000);
  signal.addEventListener("abort", () => clearInterval(clock));
}

function head() {
  const names = ["Began", "From → to", "Result", "Kind, route", "Duration", "Turns", "p50", "p90", "Loss", "Verdict"];
  const numbers = new Set(["Duration", "Turns", "p50", "p90", "Loss"]);
  const long = { p50: "median response latency", p90: "response latency, 90th percentile", Loss: "lost packets, the worse direction" };
  return h(
    "thead",
    {},
    h(
      "tr",
      {},
      names.map((name) => h("th", { scope: "col", class: numbers.has(name) ? "n" : "", title: long[name] }, name)),
    ),
  );
}

/** Bring the rows in line with the calls, touching only what changed: focus and selection stay. */
function fill(body, state) {
  const seen = new Set();
  let before = null;
  for (const call of state.calls) {
    seen.add(call.id);
    const told = JSON.stringify([
      call.status,
      call.ended_at,
      call.answered_at,
      call.reason,
      call.turns.length,
      call.speech,
      call.media,
      call.verdict.outcome,
      call.complete,
    ]);
    let row = state.rows.get(call.id);
    if (!row) {
      row = { element: h("tr", { data: { call: call.id } }), told: null };
      if (!state.first) row.element.classList.add("fresh");
      state.rows.set(call.id, row);
    }
    if (row.told !== told) {
      const focused = row.element.contains(document.activeElement);
      row.element.replaceChildren(...cells(call));
      if (focused) row.element.querySelector("a").focus();
      row.told = told;
    }
    const place = before ? before.nextSibling : body.firstChild;
    if (place !== row.element) body.insertBefore(row.element, place);
    before = row.element;
  }
  for (const [id, row] of state.rows) {
    if (seen.has(id)) continue;
    row.element.remove();
    state.rows.delete(id);
  }
  state.first = false;
}

function cells(call) {
  const { p50, p90 } = latencies(call);
  const loss = Math.max(call.media.caller.loss_pct ?? 0, call.media.agent.loss_pct ?? 0);
  const measured = call.media.caller.packets + call.media.agent.packets > 0;
  const path = [party(call.from), party(call.to)];
  const link = h(
    "a",
    { href: `#/calls/${encodeURIComponent(call.id)}`, data: { row: "" }, title: `${plain(call.from)} → ${plain(call.to)}` },
    h("bdi", {}, path[0]),
    h("span", { class: "to" }, " → "),
    h("bdi", {}, path[1]),
  );
  const cell = (name, css, ...content) => h("td", { class: css, data: { name } }, content);
  return [
    cell("Began", "when", h("time", { datetime: call.started_at, title: exactly(call.started_at) }, when(call.started_at))),
    cell("From → to", "who", link, h("span", { class: "id" }, h("bdi", {}, call.sip_call_id))),
    cell("Result", "", result(call)),
    cell("Kind, route", "", call.kind, h("span", { class: "dim" }, ` ${call.route || "–"}`)),
    cell("Duration", "n", lasting(call)),
    cell("Turns", "n", call.turns.length || "–"),
    cell("p50", "n", h("span", { class: `felt ${felt(p50)}` }, ms(p50))),
    cell("p90", "n", h("span", { class: `felt ${felt(p90)}` }, ms(p90))),
    cell("Loss", `n${loss > 1 ? " warn" : ""}`, measured ? percent(loss) : "–"),
    cell("Verdict", "", verdict(call.verdict.outcome)),
  ];
}

function lasting(call) {
  if (!call.answered_at) return "–";
  if (call.ended_at) return duration(new Date(call.ended_at) - new Date(call.answered_at));
  return h("span", { data: { since: call.answered_at } }, duration(Date.now() - new Date(call.answered_at)));
}

function tick(body) {
  for (const each of body.querySelectorAll("[data-since]")) each.textContent = duration(Date.now() - new Date(each.dataset.since));
}

function emptiness(asked) {
  const range = RANGES[asked.get("range")] ?? RANGES["24h"];
  const narrowed = FILTERS.some((name) => asked.get(name));
  const away = h("a", { href: "#/calls?range=all" }, "Show all calls of all time");
  return [
    h("h2", {}, narrowed ? "No call fits these filters" : `No calls in the ${range[0]}`),
    h("p", {}, narrowed || range[1] ? away : "Point a sidecar at this control and call through it: the call appears here by itself."),
  ];
}

function filters(asked, change) {
  const choice = (name, label, options) => {
    const given = asked.get(name) ?? "";
    const box = h(
      "select",
      { id: `f-${name}`, onchange: (event) => change(name, event.target.value) },
      options.map(([value, text]) => h("option", { value, selected: value === given }, text)),
    );
    return h("label", { for: `f-${name}` }, h("span", {}, label), box);
  };
  const field = (name, label, more = {}) => {
    const box = h("input", {
      id: `f-${name}`,
      value: asked.get(name) ?? "",
      autocomplete: "off",
      spellcheck: "false",
      ...more,
      onchange: (event) => event.target.reportValidity() && change(name, event.target.value.trim()),
    });
    return h("label", { for: `f-${name}` }, h("span", {}, label), box);
  };
  const outcomes = Object.keys(OUTCOMES).map((name) => [name, name.replace("_", " ")]);
  const ranges = Object.entries(RANGES).map(([name, [text]]) => [name === "24h" ? "" : name, text]);
  const wide = matchMedia("(min-width: 52rem)");
  const rest = h(
    "details",
    { open: wide.matches || FILTERS.slice(1).some((name) => asked.get(name)) },
    h("summary", {}, "More filters"),
    h(
      "div",
      { class: "filters-rest" },
      choice("kind", "Kind", [
        ["", "any"],
        ["simulation", "simulation"],
        ["production", "production"],
      ]),
      field("status", "SIP status", {
        inputmode: "numeric",
        pattern: "[1-6][0-9][0-9]",
        placeholder: "any",
        title: "Three digits, such as 486",
        size: 5,
      }),
      field("route", "Route", { placeholder: "any", size: 9 }),
      field("sidecar", "Sidecar", { placeholder: "any", size: 9 }),
      field("min_latency_ms", "Slowest turn ≥ ms", {
        inputmode: "numeric",
        pattern: "[0-9]*",
        placeholder: "any",
        title: "Milliseconds",
        size: 7,
      }),
      field("sip_call_id", "Call-ID", { placeholder: "exactly", size: 18 }),
    ),
  );
  wide.onchange = () => wide.matches && (rest.open = true);
  return h(
    "form",
    { class: "filters", role: "search", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
    choice("range", "Began", ranges),
    choice("outcome", "Verdict", [["", "any"], ...outcomes]),
    rest,
    h("button", { type: "submit", class: "hidden", tabindex: "-1" }, "Filter"),
  );
}
