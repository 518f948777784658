"""Errors as problem+json (RFC 9457) that say what to do, and the middleware that makes every failure one."""

from __future__ import annotations

import http

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger()


class Problem(Exception):
    """An answer that is an error. `detail` tells the client what to do about it; `extra` are further members."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None, **extra: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def response(self) -> web.Response:
        """The answer. Its type is `about:blank`: the status says the kind, the detail the rest."""
        body = {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }
        return web.json_response(body, status=self.status, headers=self.headers, content_type="application/problem+json")


_MENDS = {
    404: "there is nothing at this path",
    405: "this path does not take this method",
    413: "the body is larger than 10 MiB: send less",
}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what handlers and aiohttp raise into problem+json. A database that fails is a 503, because a later try can succeed."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return Problem(error.status, _MENDS.get(error.status, error.reason), headers=kept).response()
    except SQLAlchemyError as error:
        log.error("store failed", path=request.path, error=str(getattr(error, "orig", None) or error))
        return Problem(503, "nothing can be stored or read just now: try again", headers={"Retry-After": "2"}).response()
