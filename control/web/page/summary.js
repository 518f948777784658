// The strip above the calls: how many, how well linked, how fast, and which turns were slowest.

import { h, s } from "./dom.js";
import { count, felt, ms, when } from "./format.js";
import { OUTCOMES } from "./words.js";

const ORDER = ["linked", "repaired", "pending", "conflict", "missing", "unlinked", "not_applicable"];

/** Fill `host` with the answer of /v1/summary. `calls`: what the list shows, for what is live. */
export function summary(host, told, calls) {
  host.replaceChildren(total(told, calls), linked(told), latency(told), slowest(told));
}

function card(title, css, ...content) {
  return h("div", { class: `card ${css}` }, h("h2", {}, title), content);
}

function total(told, calls) {
  const going = calls.filter((call) => !call.ended_at).length;
  const failed = Object.entries(told.status).reduce((sum, [status, n]) => sum + (Number(status) >= 300 ? n : 0), 0);
  return card(
    "Calls",
    "total",
    h("p", { class: "big" }, count(told.calls)),
    h("p", { class: "dim" }, `${count(going)} live · `, h("span", { class: failed ? "warn" : "" }, `${count(failed)} failed`)),
    h("p", { class: "dim" }, `${count(told.kind.simulation ?? 0)} simulation · ${count(told.kind.production ?? 0)} production`),
  );
}

function linked(told) {
  const owed = ORDER.slice(0, -1).reduce((sum, name) => sum + (told.outcome[name] ?? 0), 0);
  const good = (told.outcome.linked ?? 0) + (told.outcome.repaired ?? 0);
  const shown = ORDER.filter((name) => told.outcome[name]);
  const bar = h(
    "div",
    { class: "share", "aria-hidden": "true" },
    shown.map((name) => h("span", { class: `part ${name}`, style: { "flex-grow": told.outcome[name] } })),
  );
  const legend = h(
    "ul",
    { class: "legend" },
    shown.map((name) =>
      h(
        "li",
        {},
        h("span", { class: `dot ${name}`, "aria-hidden": "true" }, OUTCOMES[name].sign),
        ` ${count(told.outcome[name])} ${name.replace("_", " ")}`,
      ),
    ),
  );
  return card(
    "Linked",
    "linked",
    h(
      "p",
      { class: "big" },
      owed ? `${Math.floor((100 * good) / owed)} %` : "–",
      h("small", {}, owed ? ` of ${count(owed)} owed` : " none owed"),
    ),
    bar,
    legend,
  );
}

function latency(told) {
  const figures = told.response_latency_ms;
  const named = [
    ["p50", figures.p50],
    ["p90", figures.p90],
    ["p95", figures.p95],
    ["max", figures.max],
  ].filter(([, value]) => value !== null);
  const list = h(
    "dl",
    { class: "figures" },
    named.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: `felt ${felt(value)}` }, ms(value)))),
  );
  const apart = told.difference_ms.n ? h("p", { class: "dim" }, difference(told.difference_ms)) : null;
  return card(
    `Response latency, n ${count(figures.n)}`,
    "latency",
    figures.n ? [list, histogram(told.latency_histogram), apart] : h("p", { class: "dim" }, "no turns measured"),
  );
}

function difference({ n, p50 }) {
  const words = p50 === 0 ? "what the wire says" : `${ms(Math.abs(p50))} ${p50 > 0 ? "less" : "more"} than the wire`;
  return `SDKs report ${words} (median, n ${count(n)})`;
}

/** Bars of equal width; the last holds everything beyond. */
function histogram(told) {
  if (!told) return null;
  const most = Math.max(1, ...told.counts);
  const [width, height, n] = [310, 56, told.counts.length];
  const step = width / n;
  const bars = told.counts.map((value, i) => {
    const from = i * told.step_ms;
    const tall = value ? Math.max(1.5, (value / most) * (height - 4)) : 0;
    const says = i === n - 1 ? `${from} ms and more: ${value}` : `${from} to ${from + told.step_ms} ms: ${value}`;
    return s(
      "rect",
      { class: `felt ${felt(from)}`, x: i * step + 0.5, y: height - tall, width: step - 1, height: tall },
      s("title", {}, says),
    );
  });
  const mark = (at) => [
    s("line", { class: "mark", x1: (at / told.step_ms) * step, x2: (at / told.step_ms) * step, y1: 0, y2: height }),
    s("text", { class: "tick", x: (at / told.step_ms) * step + 3, y: 9 }, `${at} ms`),
  ];
  const words = `Distribution of response latency in steps of ${told.step_ms} ms`;
  return s(
    "svg",
    { class: "histogram", viewBox: `0 0 ${width} ${height + 1}`, role: "img", "aria-label": words },
    bars,
    s("line", { class: "base", x1: 0, x2: width, y1: height, y2: height }),
    mark(800),
    mark(1500),
  );
}

function slowest(told) {
  const turns = told.slowest_turns ?? [];
  const item = (turn) =>
    h(
      "li",
      {},
      h(
        "a",
        { href: `#/calls/${encodeURIComponent(turn.call)}?turn=${turn.n}` },
        h("b", { class: `felt ${felt(turn.response_latency_ms)}` }, ms(turn.response_latency_ms)),
        h("span", {}, ` turn ${turn.n}`),
        h("span", { class: "dim" }, ` ${turn.route || "–"}, ${when(turn.started_at)}`),
      ),
    );
  return card("Slowest turns", "slowest", turns.length ? h("ol", {}, turns.map(item)) : h("p", { class: "dim" }, "none yet"));
}
