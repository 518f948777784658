// How figures and times are written. Nothing here touches the page.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const none = "–";

export function count(value) {
  return whole.format(value);
}

/** Milliseconds as a latency is read. */
export function ms(value, digits = 0) {
  if (value === null || value === undefined) return none;
  return `${digits ? tenth.format(value) : whole.format(value)} ms`;
}

export function signed(value) {
  if (value === null || value === undefined) return none;
  return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${whole.format(Math.abs(value))} ms`;
}

export function percent(value) {
  if (value === null || value === undefined) return none;
  return value === 0 ? "0 %" : value < 0.01 ? "< 0.01 %" : `${value < 10 ? value.toFixed(2) : value.toFixed(1)} %`;
}

/** A duration as m:ss, or h:mm:ss. */
export function duration(value) {
  if (value === null || value === undefined) return none;
  const seconds = Math.max(0, Math.round(value / 1000));
  const [h, m, sec] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(sec)}` : `${m}:${two(sec)}`;
}

/** A stretch of time, as short as it can be said. */
export function stretch(value) {
  const size = Math.abs(value);
  if (size < 1000) return `${tenth.format(value)} ms`;
  if (size < 60_000) return `${(value / 1000).toFixed(size < 10_000 ? 2 : 1)} s`;
  return duration(value);
}

/** Time since the first message, for the clock of a call. */
export function moment(value) {
  const sign = value < 0 ? "−" : "";
  const size = Math.abs(value);
  if (size < 60_000) return `${sign}${(size / 1000).toFixed(3)}`;
  const minutes = Math.floor(size / 60_000);
  const rest = ((size % 60_000) / 1000).toFixed(3).padStart(6, "0");
  return minutes < 60 ? `${sign}${minutes}:${rest}` : `${sign}${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });

/** A timestamp: the time, and the day before it unless that is today. */
export function when(text) {
  if (!text) return none;
  const at = new Date(text);
  return at.toDateString() === new Date().toDateString() ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
}

export function exactly(text) {
  return text ? full.format(new Date(text)) : none;
}

export function ago(text) {
  if (!text) return none;
  const seconds = Math.max(0, (Date.now() - new Date(text)) / 1000);
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 129_600 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} days ago`;
}

/** What a person reads of a SIP URI or name-addr: user@host. */
export function party(text) {
  const named = String(text ?? "").replace(/^\s*"(?:[^"\\]|\\.)*"\s*/, ""); // a display name may hold anything, also < and >
  const inner = /<([^>]*)>/.exec(named)?.[1] ?? named;
  return inner.replace(/^(sips?|tel):/i, "").replace(/[;?].*$/s, "") || none;
}

export function size(bytes) {
  return bytes < 1024 ? `${bytes} octets` : `${tenth.format(bytes / 1024)} KiB`;
}

/** How a response latency is felt: conversation flows up to 800 ms, and people speak up again past 1.5 s. */
export function felt(latency) {
  if (latency === null || latency === undefined) return "none";
  return latency <= 800 ? "good" : latency <= 1500 ? "slow" : "bad";
}
