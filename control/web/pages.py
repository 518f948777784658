"""Serves the page at `/` and its parts below `/web/`: read once, from the package, so that no path of a request ever names a file."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from aiohttp import web

from control.api.answering import compress
from control.api.protocol import expect

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy: nothing from elsewhere, nothing inline, and no way from a text to markup. SIP is a stranger's text."""
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
INDEX: Final = "index.html"


@dataclass(frozen=True, slots=True)
class Page:
    """One file, with the entity tag of its content."""

    body: bytes
    content_type: str
    tag: str


def read() -> dict[str, Page]:
    """All files of the page by name."""
    found: dict[str, Page] = {}
    for file in (files("control.web") / "page").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            body = file.read_bytes()
            found[file.name] = Page(body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return found


def add_pages(app: web.Application) -> None:
    """Register every file of the page under a path of its own."""
    pages: Mapping[str, Page] = read()
    for name, page in sorted(pages.items()):
        path = "/" if name == INDEX else f"/web/{name}"
        app.router.add_get(path, _handler(page), expect_handler=expect)


def _handler(page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def show(request: web.Request) -> web.StreamResponse:
        headers = {**_HEADERS, "ETag": f"W/{page.tag}"}
        if page.tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return compress(request, web.Response(body=page.body, content_type=page.content_type, charset="utf-8", headers=headers))

    return show
