// Asks the API of this very server. The token, where one is needed, lives as long as the tab.

const KEY = "trunkside.token";

export const session = new EventTarget();

/** What the API refused, with the sentence that says what to do. */
export class Refused extends Error {
  constructor(status, detail, extra = {}) {
    super(detail);
    this.status = status;
    this.extra = extra;
  }
}

export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

export function useToken(token) {
  sessionStorage.setItem(KEY, token);
  session.dispatchEvent(new Event("token"));
}

export function forgetToken() {
  sessionStorage.removeItem(KEY);
  session.dispatchEvent(new Event("token"));
}

export function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "control does not answer: is it running, and is this machine still on its network?");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, problem.detail ?? `${answer.status} ${answer.statusText}`, problem);
}

export async function get(path, signal) {
  return (await ask(path, { signal })).json();
}

export async function getBlob(path, signal) {
  return (await ask(path, { signal })).blob();
}

export async function send(method, path, body, signal) {
  const content = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await ask(path, { method, signal, ...content })).json();
}

/** The answer as it comes, for one that is told in steps. */
export async function stream(method, path, body, signal, accept) {
  return ask(path, { method, signal, body: JSON.stringify(body), headers: { "Content-Type": "application/json", Accept: accept } });
}

/** The document at `path` with its entity tag, and what takes its place if nobody changed it meanwhile. */
export async function getTagged(path, signal) {
  const answer = await ask(path, { signal });
  return { tag: answer.headers.get("ETag"), body: await answer.json() };
}

export async function putTagged(path, body, tag, signal) {
  const answer = await ask(path, {
    method: "PUT",
    signal,
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", "If-Match": tag },
  });
  return { tag: answer.headers.get("ETag"), body: await answer.json() };
}

/** Which operations this control offers, as `METHOD /path`: an older one lacks some. */
export async function operations() {
  const told = await get("/openapi.json");
  return new Set(
    Object.entries(told.paths).flatMap(([path, methods]) => Object.keys(methods).map((name) => `${name.toUpperCase()} ${path}`)),
  );
}

export function query(values) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== null && value !== undefined && value !== "") found.set(name, value);
  const text = found.toString();
  return text ? `?${text}` : "";
}
