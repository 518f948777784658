// Links to files of the API. A link cannot carry a token, so where one is needed the file is fetched first.

import { getBlob, hasToken } from "./api.js";
import { h, say } from "./dom.js";

export function file(name, path) {
  const take = async (event) => {
    if (!hasToken()) return;
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await getBlob(path));
      const ending = path.endsWith("pcap") ? "pcap" : path.endsWith("evidence") ? "html" : path.endsWith("svg") ? "svg" : "txt";
      h("a", { href: url, download: `call.${ending}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (error) {
      say(error.message);
    }
  };
  return h("a", { href: path, target: "_blank", rel: "noopener", onclick: take }, name);
}
