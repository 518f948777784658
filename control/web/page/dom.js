// Builds elements. Text only ever becomes a text node: what a SIP message says can be shown and nothing else.

const SVG = "http://www.w3.org/2000/svg";
// C0 and C1 controls, and the marks that turn the direction of text around: in a stranger's name they are there to deceive.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** `value` as text in which every sign can be seen. */
export function plain(value) {
  return String(value ?? "")
    .replace(/\r\n/g, "\n")
    .replace(UNSEEN, "\ufffd");
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (name === "data") for (const [key, each] of Object.entries(value)) element.dataset[key] = each;
    else if (name === "class") element.setAttribute("class", value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  const shown = children.flat(4).filter((child) => child !== null && child !== undefined && child !== false);
  return shown.map((child) => (child instanceof Node ? child : document.createTextNode(plain(child))));
}

/** Give `host` these children in place of its own. */
export function put(host, ...children) {
  host.replaceChildren(...nodes(children));
}

/** An HTML element. `props`: attributes; `onNAME` listeners; `data` and `style` as objects. Children: nodes and texts. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Say something to whoever listens instead of looking. */
export function say(text) {
  document.getElementById("said").textContent = plain(text);
}

/** A function that runs `work` at most once in `wait` ms, and once more after the last call. */
export function paced(work, wait) {
  let due = null;
  let last = -Infinity;
  const run = () => {
    due = null;
    last = performance.now();
    work();
  };
  return () => {
    due ??= setTimeout(run, Math.max(0, last + wait - performance.now()));
  };
}
