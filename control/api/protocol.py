"""HTTP below the application: what is not even a request is answered with a problem too, and no log repeats what a stranger sent.

The server's own log would print the offending header, which may be the one with the token.
"""

from __future__ import annotations

import uuid

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from control.api.problems import Problem

log = structlog.get_logger()


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to bytes that are no request, and to what escaped the application. Raises ConnectionError after a half answer."""
        name = uuid.uuid4().hex
        log.warning("request not understood", source=request.remote, status=status, error=type(exc).__name__, request_id=name)
        if request.writer.output_size > 0:
            raise ConnectionError("half of an answer is on its way already")
        detail = "this is not an HTTP request that control understands: check header syntax and length" if status < 500 else "try again"
        response = Problem(status, detail).response(name)
        response.headers.update({"X-Request-Id": name, "Server": "trunkside"})
        response.force_close()
        return response

    def log_exception(self, *args: object, **kw: object) -> None:
        """One line with the kind of the failure."""
        error = kw.get("exc_info")
        inner = error if isinstance(error, BaseException) else None
        kind = type(inner).__name__ if inner is not None else str(args[0]) if args else "unknown"
        if not isinstance(inner, HttpProcessingError):
            log.warning("connection failed", error=kind)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application on connections of the kind above."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )


async def expect(request: web.Request) -> web.StreamResponse | None:
    """RFC 9110 section 10.1.1: 100-continue is all that can be expected."""
    if request.version < HttpVersion11:  # HTTP/1.0 has no such thing, so it is not looked at
        return None
    wanted = request.headers.get("Expect", "")
    if wanted.lower() != "100-continue":
        return Problem(417, "Expect can be 100-continue, or be left out").response()
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # only the answer counts: see aiohttp's own handler
    return None
