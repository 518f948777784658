// Verify a SIP address: a sidecar places a test call, and every step is shown as it is done, with cause and mend where it fails.

import { Refused, get, stream } from "./api.js";
import { h, put, say } from "./dom.js";
import { ms } from "./format.js";

const SIGNS = { ok: ["✓", "good"], note: ["!", "wait"], failed: ["✕", "bad"] };

export async function show(main, place, signal) {
  const { sidecars } = await get("/v1/sidecars", signal);
  const steps = h("ol", { class: "steps" });
  const end = h("div", { class: "verdict", role: "status" });
  const field = (name, label, more, hint) =>
    h(
      "label",
      { for: `v-${name}` },
      h("span", {}, label),
      h("input", { id: `v-${name}`, name, autocomplete: "off", spellcheck: "false", ...more }),
      hint && h("small", { class: "dim" }, hint),
    );
  const from = h(
    "select",
    { id: "v-sidecar", name: "sidecar" },
    h("option", { value: "" }, "any that may"),
    sidecars.map((each) => h("option", { value: each.name }, each.name)),
  );
  const button = h("button", { type: "submit", class: "main" }, "Verify");
  let running = null;
  const form = h(
    "form",
    { class: "card form", "aria-label": "What to verify", onsubmit: (event) => (event.preventDefault(), start()) },
    field("uri", "SIP address", {
      required: true,
      placeholder: "sip:agent@voice.example",
      value: place.query.get("uri") ?? "",
      pattern: "sips?:.+",
      title: "Begins with sip: or sips:",
    }),
    field("username", "User name", { placeholder: "if the edge asks for one" }),
    field("password", "Password", { type: "password" }, "Sent once, stored nowhere."),
    h("label", { for: "v-sidecar" }, h("span", {}, "From sidecar"), from),
    h("div", { class: "buttons" }, button),
  );

  async function start() {
    running?.abort();
    const own = (running = new AbortController());
    signal.addEventListener("abort", () => own.abort());
    const given = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
    put(steps, h("li", { class: "going" }, "calling …"));
    put(end);
    button.disabled = true;
    try {
      const answer = await stream("POST", "/v1/verify", given, own.signal, "application/x-ndjson");
      for await (const told of lines(answer)) take(told);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      fail(error.message);
    } finally {
      button.disabled = false;
      steps.querySelector(".going")?.remove();
    }
  }
  function take(told) {
    if (told.step) {
      steps.querySelector(".going")?.remove();
      steps.append(step(told.step), h("li", { class: "going" }, "…"));
      say(`${told.step.step}: ${told.step.outcome}`);
    } else if (told.report) {
      const fine = told.report.fine;
      put(
        end,
        h(
          "p",
          { class: fine ? "fine" : "unfine" },
          fine ? "All is well: an evaluator's call would get through." : "An evaluator's call would fail: see the steps marked ✕.",
        ),
      );
    } else if (told.problem) {
      fail(told.problem.detail);
    }
  }
  const fail = (detail) => put(end, h("p", { class: "unfine", role: "alert" }, detail));

  put(
    main,
    h("h1", {}, "Verify a SIP address"),
    h(
      "p",
      { class: "dim" },
      "A sidecar resolves it, connects, asks, dials and hangs up politely. It dials only hosts that a route or the verification policy names.",
    ),
    h("div", { class: "two-forms" }, form, h("section", { class: "card", "aria-label": "Steps" }, h("h2", {}, "Steps"), steps, end)),
  );
}

/** The objects of an answer that is one JSON text a line. */
async function* lines(answer) {
  let rest = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const whole = rest.split("\n");
    rest = done ? "" : whole.pop();
    for (const line of whole) if (line.trim()) yield JSON.parse(line);
    if (done) return;
  }
}

function step(told) {
  const [sign, tone] = SIGNS[told.outcome] ?? ["?", "none"];
  const facts = told.facts.map((fact) => h("div", {}, h("dt", {}, fact.what), h("dd", { class: "mono" }, h("bdi", {}, fact.seen))));
  const findings = told.findings.map((each) =>
    h("div", { class: "finding" }, h("p", {}, h("b", {}, h("bdi", {}, each.cause))), h("p", {}, each.mend)),
  );
  return h(
    "li",
    { class: `step ${told.outcome}`, data: { step: told.step } },
    h("span", { class: `chip ${tone}` }, h("span", { "aria-hidden": "true" }, `${sign} `), told.outcome),
    " ",
    h("b", {}, told.step.replaceAll("_", " ")),
    h("span", { class: "dim" }, ` ${ms(told.ms)}`),
    told.detail && h("p", {}, h("bdi", {}, told.detail)),
    facts.length > 0 && h("dl", { class: "seen" }, facts),
    findings,
  );
}
