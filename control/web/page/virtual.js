// A list of rows of one height of which only those in sight exist, however long it is; the arrow keys choose one.

import { h } from "./dom.js";

const SPARE = 8;

/** `draw(item, index)` gives a row's element; `chosen(item, index)` is told of a choice. Returns {element, rows, choose}. */
export function virtual({ height, label, id, draw, chosen, hovered }) {
  const inner = h("div", { class: "rows" });
  const box = h("div", { class: "virtual", role: "listbox", tabindex: "0", "aria-label": label, id }, inner);
  let items = [];
  let made = new Map();
  let at = -1;
  let [top, room] = [0, 0]; // as they were last seen: to ask the box would mean to lay out anew

  const scrollTo = (to) => {
    top = Math.max(0, Math.min(items.length * height - room, to));
    box.scrollTop = top;
  };
  const paint = () => {
    const first = Math.max(0, Math.floor(top / height) - SPARE);
    const last = Math.min(items.length, Math.ceil((top + room) / height) + SPARE);
    const kept = new Map();
    const fresh = [];
    for (let i = first; i < last; i += 1) {
      let row = made.get(i);
      if (!row) {
        row = draw(items[i], i);
        row.id = `${id}-${i}`;
        row.setAttribute("role", "option");
        row.setAttribute("aria-setsize", items.length);
        row.setAttribute("aria-posinset", i + 1);
        row.dataset.i = i;
        row.style.top = `${i * height}px`;
        fresh.push(row);
      }
      row.setAttribute("aria-selected", i === at);
      kept.set(i, row);
    }
    for (const [i, row] of made) if (!kept.has(i)) row.remove();
    inner.append(...fresh);
    made = kept;
    if (at >= 0 && made.has(at)) box.setAttribute("aria-activedescendant", `${id}-${at}`);
    else box.removeAttribute("aria-activedescendant");
  };
  const reveal = (i, middle = false) => {
    const own = i * height;
    if (middle) scrollTo(own - room / 2);
    else if (own < top) scrollTo(own);
    else if (own + height > top + room) scrollTo(own + height - room);
    paint();
  };
  const choose = (i, middle = false) => {
    if (!items.length) return;
    at = Math.max(0, Math.min(items.length - 1, i));
    reveal(at, middle);
    chosen(items[at], at);
  };
  let frame = 0;
  box.addEventListener(
    "scroll",
    () =>
      (frame ||= requestAnimationFrame(() => {
        frame = 0;
        top = box.scrollTop;
        paint();
      })),
    { passive: true },
  );
  box.addEventListener("click", (event) => {
    const row = event.target.closest("[data-i]");
    if (row) choose(Number(row.dataset.i));
  });
  box.addEventListener("pointerover", (event) => {
    const row = event.target.closest("[data-i]");
    hovered?.(row ? items[Number(row.dataset.i)] : null);
  });
  box.addEventListener("pointerleave", () => hovered?.(null));
  box.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(room / height) - 1);
    const to = {
      ArrowDown: at + 1,
      j: at + 1,
      ArrowUp: at - 1,
      k: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: items.length - 1,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    choose(to);
  });
  new ResizeObserver(([entry]) => {
    room = entry.contentRect.height;
    paint();
  }).observe(box);
  return {
    element: box,
    choose,
    rows(next) {
      items = next;
      for (const row of made.values()) row.remove();
      made = new Map();
      inner.style.height = `${items.length * height}px`;
      box.style.maxHeight = `${items.length * height + 4}px`;
      if (at >= items.length) at = -1;
      paint();
    },
  };
}
