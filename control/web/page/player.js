// Plays a call's recording beside the timeline: position 0 of the file is the answer, so both share one clock.

import { getBlob, hasToken } from "./api.js";
import { h, put, say } from "./dom.js";
import { duration } from "./format.js";

const SPEEDS = [1, 1.5, 2, 0.5];

/** `onMove(ms)` is told the call time while it plays. Returns {element, show(call, path), seek(ms), toggle()}. */
export function player({ onMove }) {
  const audio = h("audio", { preload: "none" });
  const clock = h("output", { class: "mono" });
  const play = h("button", { type: "button", class: "main", onclick: () => toggle() });
  const speed = h("button", { type: "button", class: "quiet", title: "Speed", onclick: () => faster() });
  const element = h(
    "div",
    { class: "player", role: "group", "aria-label": "Recording", hidden: true },
    audio,
    play,
    clock,
    speed,
    h("span", { class: "dim" }, "caller left, agent right; click the timeline to go there"),
  );
  let source = null;
  let length = 0;
  let wanted = 0;

  const draw = () => {
    put(play, audio.paused ? "▶ Play" : "❚❚ Pause");
    put(clock, `${duration(1000 * (audio.src ? audio.currentTime : wanted))} / ${duration(1000 * length)}`);
    put(speed, `${audio.playbackRate}×`);
    speed.setAttribute("aria-label", `Speed ${audio.playbackRate} times. Press for another`);
  };
  const follow = () => {
    onMove(audio.currentTime * 1000);
    draw();
    if (!audio.paused) requestAnimationFrame(follow);
  };
  /** The file is asked for when somebody wants to hear it. Where a token is needed it comes whole, because an element cannot send one. */
  async function load() {
    if (!source || audio.src) return;
    const from = source;
    const url = hasToken() ? URL.createObjectURL(await getBlob(from)) : from;
    if (source !== from || audio.src) {
      if (url !== from) URL.revokeObjectURL(url); // the view was left, or another press was faster
      return;
    }
    audio.src = url;
    audio.currentTime = wanted;
  }
  async function toggle() {
    try {
      await load();
      if (!source) return;
      if (audio.paused) await audio.play();
      else audio.pause();
    } catch (error) {
      say(`The recording cannot be played: ${error.message}`);
    }
    draw();
  }
  function faster() {
    audio.playbackRate = SPEEDS[(SPEEDS.indexOf(audio.playbackRate) + 1) % SPEEDS.length];
    draw();
  }
  audio.addEventListener("play", follow);
  audio.addEventListener("pause", draw);
  audio.addEventListener("seeked", () => onMove(audio.currentTime * 1000));

  return {
    element,
    toggle,
    /** Whether there is anything to hear. */
    show(call, path) {
      const told = call.media.recording;
      element.hidden = !told;
      source = told ? `${path}/recording` : null;
      length = told?.seconds ?? 0;
      draw();
      return Boolean(told);
    },
    seek(time) {
      if (!source) return;
      wanted = Math.max(0, Math.min(length, time / 1000));
      if (audio.src) audio.currentTime = wanted;
      onMove(wanted * 1000);
      draw();
    },
    close() {
      audio.pause();
      if (audio.src.startsWith("blob:")) URL.revokeObjectURL(audio.src);
      source = null;
    },
  };
}
