"""From what a handler gives to an HTTP answer: models as JSON, entity tags, and a compressed body for whoever takes one."""

from __future__ import annotations

import hashlib
import re

from aiohttp import web
from aiohttp.web_response import ContentCoding
from pydantic import BaseModel

Answer = BaseModel | web.StreamResponse

_LEAST_COMPRESSED = 1024
_COMPRESSIBLE = re.compile(r"^(text/|image/svg|application/(json|problem\+json|vcon\+json|x-ndjson|vnd\.tcpdump))")
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def finish(request: web.Request, answer: Answer, *, conditional: bool) -> web.StreamResponse:
    """The answer to `request`. `conditional`: with an entity tag, and 304 when the client has that state already (RFC 9110 section 13)."""
    if isinstance(answer, BaseModel):
        body = answer.model_dump_json(by_alias=True).encode("utf-8", "replace")
        answer = web.Response(body=body, content_type="application/json", charset="utf-8")
    if not isinstance(answer, web.Response) or answer.prepared:
        return answer
    if conditional and answer.status == 200:
        answer = _tagged(request, answer)
    answer.headers.setdefault("Cache-Control", "no-store")
    return compress(request, answer)


def _tagged(request: web.Request, answer: web.Response) -> web.Response:
    # A weak tag (RFC 9110 section 8.8.1): the same state compressed is the same to a client.
    own = answer.headers.get("ETag", "").removeprefix("W/")
    tag = own or f'"{hashlib.sha256(answer.body if isinstance(answer.body, bytes) else b"").hexdigest()[:32]}"'
    headers = {"ETag": f"W/{tag}", "Cache-Control": "private, no-cache"}
    asked = request.headers.get("If-None-Match", "")
    if asked.strip() == "*" or tag in _TAG.findall(asked):
        return web.Response(status=304, headers={**headers, "Vary": "Accept-Encoding"})
    answer.headers.update(headers)
    return answer


def tags(header: str) -> frozenset[str]:
    """The opaque tags of an If-Match or If-None-Match, without quotes. Weak or strong: ours name a state, not the octets that show it."""
    return frozenset(tag.strip('"') for tag in _TAG.findall(header))


def compress(request: web.Request, answer: web.Response) -> web.Response:
    """`answer`, compressed as the client prefers when that is worth it."""
    answer.headers.setdefault("Vary", "Accept-Encoding")
    size = len(answer.body) if isinstance(answer.body, bytes) else 0
    if size < _LEAST_COMPRESSED or _COMPRESSIBLE.match(answer.content_type) is None:
        return answer
    coding = preferred(request.headers.get("Accept-Encoding", ""))
    if coding is not None:
        answer.enable_compression(coding)
    return answer


def preferred(accept: str) -> ContentCoding | None:
    """The coding of ours with the greatest weight in Accept-Encoding (RFC 9110 section 12.5.3), gzip first among equals; None: as it is."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights[name] = next((_weight(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
    other = weights.get("*", 0.0)
    gzip, deflate = weights.get("gzip", weights.get("x-gzip", other)), weights.get("deflate", other)
    if max(gzip, deflate) <= 0 or weights.get("identity", 0.0) > max(gzip, deflate):
        return None
    return ContentCoding.gzip if gzip >= deflate else ContentCoding.deflate


def _weight(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
