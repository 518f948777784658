// Listens in on a live call by WebRTC: it receives, the caller left and the agent right, and sends nothing but what the connection needs.

import { get, send } from "./api.js";
import { h, put } from "./dom.js";

const GATHERING_MS = 3000; // candidates that take longer are not waited for

/** For a call at `path`. Returns {element, close()}; the element stays the same while the view is drawn anew. */
export function listener(path) {
  const audio = h("audio", { autoplay: true });
  const button = h("button", { type: "button", class: "cite", "aria-pressed": "false", onclick: () => (peer ? close() : begin()) });
  const trouble = h("span", { class: "warn", role: "alert" });
  const element = h("span", { class: "listen" }, button, trouble, audio);
  let peer = null;

  const draw = (text) => {
    put(button, text);
    button.setAttribute("aria-pressed", String(peer !== null));
  };
  async function begin() {
    put(trouble);
    try {
      const { ice_servers } = await get("/v1/listening");
      const mine = (peer = new RTCPeerConnection({ iceServers: ice_servers.map(known) }));
      draw("Connecting …");
      mine.addTransceiver("audio", { direction: "recvonly" });
      mine.addEventListener("track", (event) => (audio.srcObject = new MediaStream([event.track])));
      mine.addEventListener("connectionstatechange", () => peer === mine && follow(mine));
      await mine.setLocalDescription(await mine.createOffer());
      await gathered(mine);
      const answer = await send("POST", `${path}/listen`, { sdp: mine.localDescription.sdp });
      if (peer !== mine) return; // another press was faster
      await mine.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    } catch (error) {
      close();
      put(trouble, ` ${error.message}`);
    }
  }
  function follow(mine) {
    if (mine.connectionState === "connected") draw("■ Stop listening");
    if (mine.connectionState === "failed") put(trouble, " The audio found no way here: control must be reachable over UDP, or a TURN server be set.");
    if (["failed", "closed", "disconnected"].includes(mine.connectionState)) close();
  }
  function close() {
    peer?.close();
    peer = null;
    audio.srcObject = null;
    draw("🎧 Listen in");
  }
  draw("🎧 Listen in");
  return { element, close };
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
