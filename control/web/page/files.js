// Links to files of the API. A link cannot carry a token, so where one is needed the file is fetched first.

import { getBlob, hasToken } from "./api.js";
import { h, say } from "./dom.js";

/** What a call can be taken along as: name, what follows its path, how a file of it is called. */
const FILES = [
  ["evidence", "/evidence", "html"],
  ["pcap", "/pcap", "pcap"],
  ["ladder as text", "/ladder", "txt"],
  ["as SVG", "/ladder?format=svg", "svg"],
  ["as Mermaid", "/ladder?format=mermaid", "mmd"],
  ["vCon", "/vcon", "vcon.json"],
  ["JSON", "", "json"],
];

/** Links to all files of a call at `path`. */
export function files(call, path) {
  const sound = call.media.recording ? [["recording", "/recording", call.media.recording.format]] : [];
  return [...FILES, ...sound].map(([name, rest, ending]) => file(name, `${path}${rest}`, `${call.id}.${ending}`));
}

function file(name, path, called) {
  const take = async (event) => {
    if (!hasToken()) return;
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await getBlob(path));
      h("a", { href: url, download: called }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      say(error.message);
    }
  };
  return h("a", { href: path, target: "_blank", rel: "noopener", onclick: take }, name);
}
