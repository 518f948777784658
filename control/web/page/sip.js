// Reads as much of a SIP message as showing it needs. What cannot be read is shown as it came.

const COMPACT = {
  i: "call-id",
  f: "from",
  t: "to",
  v: "via",
  m: "contact",
  c: "content-type",
  l: "content-length",
  k: "supported",
  s: "subject",
  e: "content-encoding",
  o: "event",
  r: "refer-to",
  u: "allow-events",
  x: "session-expires",
};

/** The head of a message: {request, method, status, phrase, cseq, sdp}. */
export function head(text) {
  const end = text.indexOf("\n");
  const first = (end < 0 ? text : text.slice(0, end)).trim();
  const answer = /^SIP\/2\.0 (\d{3}) ?(.*)$/.exec(first);
  const cseq = /^cseq[ \t]*:[ \t]*(\d+)[ \t]+(\S+)/im.exec(text);
  const sdp = /^m=audio /m.test(text);
  if (answer)
    return { first, request: false, status: Number(answer[1]), phrase: answer[2], method: cseq?.[2] ?? "", number: cseq?.[1] ?? "", sdp };
  const request = /^([A-Z][A-Z-]*) \S/.exec(first);
  return { first, request: true, status: 0, phrase: "", method: request?.[1] ?? first.slice(0, 20), number: cseq?.[1] ?? "", sdp };
}

/** What the ladder writes on the arrow. */
export function label(told) {
  if (told.request) return told.method;
  return `${told.status} ${told.phrase}${told.method && told.method !== "INVITE" ? ` (${told.method})` : ""}`;
}

/** start line, header fields as [name, value] with folded lines joined, and the body. */
export function parts(text) {
  const lines = text.replace(/\r\n/g, "\n");
  const gap = lines.indexOf("\n\n");
  const top = gap < 0 ? lines : lines.slice(0, gap);
  const [start, ...rest] = top.split("\n");
  const fields = [];
  for (const line of rest) {
    if (/^[ \t]/.test(line) && fields.length) fields.at(-1)[1] += `\n${line}`;
    else if (line) {
      const colon = line.indexOf(":");
      fields.push(colon < 0 ? [line, ""] : [line.slice(0, colon).trimEnd(), line.slice(colon + 1).trimStart()]);
    }
  }
  return { start, fields, body: gap < 0 ? "" : lines.slice(gap + 2) };
}

/** The field's full name in lower case. */
export function fieldName(name) {
  const low = name.toLowerCase();
  return COMPACT[low] ?? low;
}

const IDENTITY = new Set(["call-id", "x-sip-call-id", "x-cid", "x-correlation-id", "user-to-user", "session-id"]);

export function carriesIdentity(name) {
  return IDENTITY.has(fieldName(name));
}

/** Which fields of `ours` are not in `theirs` in the same words, and which of theirs are gone: for the same message on the other leg. */
export function crossing(ours, theirs) {
  const known = new Set(theirs.map(([name, value]) => `${fieldName(name)}:${value}`));
  const names = new Set(theirs.map(([name]) => fieldName(name)));
  const here = new Set(ours.map(([name]) => fieldName(name)));
  return {
    marks: ours.map(([name, value]) =>
      known.has(`${fieldName(name)}:${value}`) ? "same" : names.has(fieldName(name)) ? "changed" : "added",
    ),
    gone: theirs.filter(([name]) => !here.has(fieldName(name))),
  };
}

const REDACTED = /(sha256:[0-9a-f]{64}|"?\bredacted\b"?)/;

/** `text` cut at what the sidecar or control redacted: [[piece, isRedacted], …]. */
export function redactions(text) {
  return text
    .split(REDACTED)
    .map((piece, i) => [piece, i % 2 === 1])
    .filter(([piece]) => piece);
}
