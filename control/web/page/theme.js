// Light, dark, or as the system has it. Apart and small, so that the page never flashes in the wrong one.

const KEY = "trunkside.theme";
const ORDER = ["auto", "light", "dark"];

export function theme() {
  const kept = localStorage.getItem(KEY);
  return ORDER.includes(kept) ? kept : "auto";
}

function apply() {
  const now = theme();
  if (now === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = now;
}

/** Let a button step through the three. */
export function themeButton(button) {
  const show = () => {
    const now = theme();
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[now];
    button.setAttribute("aria-label", `Colours: ${now}. Press for ${ORDER[(ORDER.indexOf(now) + 1) % 3]}`);
    button.title = `Colours: ${now}`;
  };
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, ORDER[(ORDER.indexOf(theme()) + 1) % 3]);
    apply();
    show();
  });
  show();
}

apply();
