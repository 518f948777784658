"""Dialog ids that are written inside messages: Replaces (RFC 3891), Join (RFC 3911), Target-Dialog (RFC 4538), and those in a Refer-To.

Each leg knows a call by other tags, so an id that names a dialog with us means nothing on the other leg until it names that leg's dialog.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote, unquote

from sidecar.sip.dialog import Dialog, DialogKey
from sidecar.sip.headers import Headers

Twin = Callable[[DialogKey], Dialog | None]
"""The other leg's dialog of the call that has this one with us; None when it is no dialog of ours."""
# Header → the parameters that hold the tags: the recipient's own first.
NAMES: Final = {"replaces": ("to-tag", "from-tag"), "join": ("to-tag", "from-tag"), "target-dialog": ("remote-tag", "local-tag")}
# RFC 3261 25.1, hnv-unreserved and unreserved: what a header's value in a URI may hold as it is.
_PLAIN: Final = "[]/?:+$-_.!~*'()"


def key_in(name: str, value: str) -> DialogKey | None:
    """The dialog that a header's value names, as its recipient sees it; None when the value cannot be read."""
    call_id, *params = [part.strip() for part in value.split(";")]
    tags = dict(part.split("=", 1) for part in params if "=" in part)
    lowered = {key.strip().lower(): tag.strip() for key, tag in tags.items()}
    own, theirs = NAMES[name.lower()]
    if not call_id or own not in lowered or theirs not in lowered:
        return None
    return DialogKey(call_id, lowered[own], lowered[theirs])


def translated(name: str, value: str, twin: Twin) -> str:
    """The value with the other leg's Call-ID and tags. What names no dialog of ours, or one that is not up on both legs, stays as it is."""
    key = key_in(name, value)
    dialog = None if key is None else twin(key)
    if dialog is None or not dialog.remote_tag:
        return value
    own, theirs = NAMES[name.lower()]
    tags = {own: dialog.remote_tag, theirs: dialog.local_tag}
    _, *params = value.split(";")
    written = []
    for part in params:
        param, equals, _ = part.partition("=")
        tag = tags.get(param.strip().lower())
        written.append(part if tag is None or not equals else f"{param}={tag}")
    return ";".join([dialog.call_id, *written])


def translate_headers(headers: Headers, twin: Twin) -> None:
    """The same for every such header of a message, in place."""
    for name in NAMES:
        values = headers.all(name)
        if values and (changed := [translated(name, value, twin) for value in values]) != values:
            headers.remove(name)
            for value in changed:
                headers.add(_SPELT[name], value)


def in_refer_to(value: str, twin: Twin) -> str:
    """A Refer-To (or Referred-By) value with the dialog ids in its URI's headers translated; every other octet stays."""
    start = value.find("?")
    if start < 0:
        return value
    stop = value.find(">", start)
    stop = len(value) if stop < 0 else stop
    fields = value[start + 1 : stop].split("&")
    written = []
    for part in fields:
        name, equals, escaped = part.partition("=")
        if not equals or unquote(name).lower() not in NAMES:
            written.append(part)
            continue
        plain = unquote(escaped, errors="surrogateescape")
        changed = translated(unquote(name), plain, twin)
        written.append(part if changed == plain else f"{name}={quote(changed, safe=_PLAIN, errors='surrogateescape')}")
    return value[: start + 1] + "&".join(written) + value[stop:]


_SPELT: Final = {"replaces": "Replaces", "join": "Join", "target-dialog": "Target-Dialog"}
