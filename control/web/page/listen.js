// Listens in on a live call by WebRTC: it receives, the caller left and the agent right, and sends nothing but what the connection needs.

import { get, send } from "./api.js";
import { h, put, s, say } from "./dom.js";

const GATHERING_MS = 3000; // candidates that take longer are not waited for
const NO_WAY = " The audio found no way here: control must be reachable over UDP, or a TURN server be set.";
const BROKE_OFF = " The audio broke off, and its connection did not come back.";

/** For a call at `path`. Returns {element, close()}; the element stays the same while the view is drawn anew. */
export function listener(path) {
  const audio = h("audio", { autoplay: true });
  const button = h("button", { type: "button", class: "cite", onclick: () => (attempt ? close() : begin()) });
  const trouble = h("span", { class: "warn", role: "alert" });
  const element = h("span", { class: "listen" }, button, trouble, audio);
  let attempt = null; // {peer, heard}; what is awaited for an attempt that is no longer this one comes to nothing

  const draw = (...content) => {
    put(button, content);
    button.classList.toggle("on", attempt !== null);
  };
  async function begin() {
    const mine = (attempt = { peer: null, heard: false });
    put(trouble);
    draw("Connecting … (press to stop)");
    try {
      const { ice_servers } = await get("/v1/listening");
      if (attempt !== mine) return;
      const peer = (mine.peer = new RTCPeerConnection({ iceServers: ice_servers.map(known) }));
      peer.addTransceiver("audio", { direction: "recvonly" });
      peer.addEventListener("track", (event) => attempt === mine && (audio.srcObject = new MediaStream([event.track])));
      peer.addEventListener("connectionstatechange", () => attempt === mine && follow(mine));
      await peer.setLocalDescription(await peer.createOffer());
      await gathered(peer);
      if (attempt !== mine) return;
      const answer = await send("POST", `${path}/listen`, { sdp: peer.localDescription.sdp });
      if (attempt !== mine) return;
      await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    } catch (error) {
      if (attempt !== mine) return; // it was given up, and what that interrupted is no trouble
      close();
      put(trouble, ` ${error.message}`);
    }
  }
  function follow(mine) {
    const state = mine.peer.connectionState;
    if (state === "connected") {
      mine.heard = true;
      draw("■ Stop listening");
      say("You hear the call: caller left, agent right");
    }
    if (state === "disconnected") draw("Connection lost, waiting … (press to stop)"); // it may come back; if not, `failed` follows
    if (state === "failed" || state === "closed") {
      close();
      put(trouble, mine.heard ? BROKE_OFF : NO_WAY);
    }
  }
  function close() {
    attempt?.peer?.close();
    attempt = null;
    audio.srcObject = null;
    draw(headphones(), "Listen in");
  }
  close();
  return { element, close };
}

/** Drawn, because not every machine has a font with this sign. */
function headphones() {
  const shape = "M3 10V8a5 5 0 0 1 10 0v2M3 9.5h1.5v4H3.5A1 1 0 0 1 2.5 12.5V10zM13 9.5h-1.5v4h1A1 1 0 0 0 13.5 12.5V10z";
  return s("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: shape }));
}

function known(server) {
  return Object.fromEntries(Object.entries(server).filter(([, value]) => value !== null));
}

/** Wait until the offer names every way by which this browser can be reached. */
function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((done) => {
    peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && done());
    setTimeout(done, GATHERING_MS);
  });
}
