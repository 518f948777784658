// The routes of the fleet: shown, edited, put in force as a whole. A password can be set and replaced, never read.

import { Refused, getTagged, putTagged } from "./api.js";
import { sure } from "./asking.js";
import { h, put, say } from "./dom.js";
import { ago, exactly } from "./format.js";

const CHOICES = { direction: ["inbound", "outbound"], simulation: ["auto", "always", "never"] };

export async function show(main, place, signal) {
  let told = await getTagged("/v1/routes", signal);
  const list = h("div", { class: "cards" });
  const about = h("p", { class: "dim" });
  const notice = h("p", { class: "notice", role: "alert", hidden: true });
  const warn = (text) => {
    notice.hidden = !text;
    put(notice, text);
  };

  /** Put these routes in force; what else the document holds stays as it is. */
  const save = async (routes) => {
    try {
      told = await putTagged("/v1/routes", { ...told.body, routes }, told.tag, signal);
      warn("");
      say("The routes are in force");
      draw();
      return true;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 412) {
        told = await getTagged("/v1/routes", signal);
        draw();
        warn("Somebody else changed the routes meanwhile: they are shown as they are now. Make your change again.");
        return true;
      }
      warn(error.message);
      return false;
    }
  };
  const edit = (index) =>
    editor(
      told.body.routes[index] ?? { name: "", target: "sip:", match: {} },
      async (route) => {
        const routes = [...told.body.routes];
        if (index < 0) routes.push(route);
        else routes[index] = route;
        return save(routes);
      },
      notice,
    );
  const remove = async (index) => {
    if (
      await sure(
        `Remove the route ${told.body.routes[index].name}? Calls that match it are refused from then on, unless another route fits.`,
      )
    ) {
      await save(told.body.routes.filter((_, i) => i !== index));
    }
  };
  const move = (index, by) => {
    const routes = [...told.body.routes];
    const [route] = routes.splice(index, 1);
    routes.splice(index + by, 0, route);
    return save(routes);
  };

  const draw = () => {
    const { routes, version, updated_at: at, updated_by: by } = told.body;
    put(
      about,
      version
        ? [
            "Version ",
            String(version),
            at && [", put ", h("time", { datetime: at, title: exactly(at) }, ago(at))],
            by && [" by ", h("bdi", {}, by)],
            ". The first route that fits a call wins.",
          ]
        : "Nothing was put yet: each sidecar goes by its own file. The first route that is added here takes over from the files.",
    );
    put(
      list,
      routes.map((route, index) => card(route, index, routes.length, { edit, remove, move })),
    );
  };
  draw();
  put(
    main,
    h("h1", {}, "Routes"),
    about,
    notice,
    list,
    h("button", { type: "button", class: "main", onclick: () => edit(-1) }, "Add a route"),
  );
}

function card(route, index, many, { edit, remove, move }) {
  const matches = Object.entries(route.match ?? {})
    .filter(([, value]) => value)
    .map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`);
  const facts = [
    ["matches", matches.join(", ") || "every call"],
    ["target", route.target],
    ["credentials", route.username ? [h("bdi", {}, route.username), route.password_set ? ", password set" : ", no password"] : "none"],
    ["platform", route.platform],
    ["simulation", route.simulation],
    ["direction", route.direction === "outbound" ? `outbound to ${route.allow.join(", ")}` : "inbound"],
    ["sidecars", route.sidecars?.join(", ") || "all"],
  ];
  const button = (text, label, work, off) =>
    h("button", { type: "button", "aria-label": `${label} ${route.name}`, disabled: off, onclick: work }, text);
  return h(
    "section",
    { class: "card", "aria-label": `Route ${route.name}`, data: { route: route.name } },
    h("h2", {}, `${index + 1}. `, h("bdi", {}, route.name)),
    h(
      "dl",
      { class: "facts" },
      facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, typeof value === "string" ? h("bdi", {}, value) : value))),
    ),
    h(
      "p",
      { class: "buttons" },
      button("Edit", "Edit route", () => edit(index)),
      button("↑", "Move up route", () => move(index, -1), index === 0),
      button("↓", "Move down route", () => move(index, 1), index === many - 1),
      button("Remove", "Remove route", () => remove(index)),
    ),
  );
}

/** A dialog for one route. `done(route)` answers whether it may close. */
function editor(route, done, notice) {
  const field = (name, label, value, more = {}) =>
    h(
      "label",
      { for: `r-${name}` },
      h("span", {}, label),
      h("input", { id: `r-${name}`, name, value: value ?? "", autocomplete: "off", spellcheck: "false", ...more }),
    );
  const choice = (name, label) =>
    h(
      "label",
      { for: `r-${name}` },
      h("span", {}, label),
      h(
        "select",
        { id: `r-${name}`, name },
        CHOICES[name].map((each) => h("option", { value: each, selected: each === (route[name] ?? CHOICES[name][0]) }, each)),
      ),
    );
  const secret = route.password_set ? "leave empty to keep the one that is set" : "none set";
  const trouble = h("p", { class: "warn", role: "alert" });
  const form = h(
    "form",
    { class: "form" },
    field("name", "Name", route.name, { required: true, maxlength: 128 }),
    field("target", "Target", route.target, { required: true, pattern: "sips?:.+", title: "Begins with sip: or sips:" }),
    field("user", "Matches user", route.match?.user, { placeholder: "any; * stands for any run of signs" }),
    field("host", "Matches host", route.match?.host, { placeholder: "any" }),
    field("source", "Matches source network", route.match?.source, { placeholder: "any, as in 192.0.2.0/24" }),
    field("username", "User name at the edge", route.username, { placeholder: "none" }),
    field("password", "Password", "", { type: "password", placeholder: secret, autocomplete: "new-password" }),
    field("platform", "Platform", route.platform ?? "generic", { required: true }),
    choice("simulation", "Simulation"),
    choice("direction", "Direction"),
    field("allow", "Hosts that may be dialled (outbound)", (route.allow ?? []).join(", ")),
    field("sidecars", "Only for sidecars", (route.sidecars ?? []).join(", "), { placeholder: "all" }),
    trouble,
    h(
      "p",
      { class: "buttons" },
      h("button", { type: "submit", class: "main" }, "Put in force"),
      h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
    ),
  );
  const dialog = h(
    "dialog",
    { "aria-label": route.name ? `Route ${route.name}` : "New route", class: "editor" },
    h("h2", {}, route.name ? ["Route ", h("bdi", {}, route.name)] : "New route"),
    form,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await done(read(route, new FormData(form)))) dialog.close();
    else put(trouble, notice.textContent);
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** The route as the form has it; what the form does not show stays as it was. */
function read(route, form) {
  const text = (name) => form.get(name).trim() || null;
  const several = (name) =>
    form
      .get(name)
      .split(/[\s,]+/)
      .filter(Boolean);
  const match = { ...route.match, user: text("user"), host: text("host"), source: text("source") };
  const { password_set: _, ...rest } = route;
  const secret = form.get("password");
  return {
    ...rest,
    name: text("name"),
    target: text("target"),
    match,
    username: text("username"),
    ...(secret ? { password: secret } : {}),
    platform: text("platform"),
    simulation: form.get("simulation"),
    direction: form.get("direction"),
    allow: several("allow"),
    sidecars: several("sidecars"),
  };
}
