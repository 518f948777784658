"""Errors as problem+json (RFC 9457) that say what to do, and the middleware that makes every failure one and gives every request a name."""

from __future__ import annotations

import http
import re
import uuid

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestPayloadError
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger()

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
"""The request's name: the client's own `X-Request-Id` when it is usable, else made here."""
_USABLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
PROBLEM = "application/problem+json"


class Problem(Exception):
    """An answer that is an error. `detail` tells the client what to do about it; `extra` are further members."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None, **extra: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def body(self, request_id: str | None = None) -> dict[str, object]:
        """The problem document. Its type is `about:blank`: the status says the kind, the detail the rest."""
        return {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **({"request_id": request_id} if request_id is not None else {}),
            **self.extra,
        }

    def response(self, request_id: str | None = None) -> web.Response:
        """The answer."""
        headers = {"Cache-Control": "no-store", **self.headers}
        return web.json_response(self.body(request_id), status=self.status, headers=headers, content_type=PROBLEM)


_MENDS = {
    404: "there is nothing at this path: GET /openapi.json lists what there is",
    405: "this path does not take this method: the header Allow names those it takes",
    413: "the body is larger than 10 MiB: send less",
}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what handlers and aiohttp raise into problem+json. A database that fails is a 503, because a later try can succeed."""
    given = request.headers.get("X-Request-Id", "")
    name = given if _USABLE_ID.fullmatch(given) else uuid.uuid4().hex
    request[REQUEST_ID] = name
    with structlog.contextvars.bound_contextvars(request_id=name):
        problem = None
        try:
            return await handler(request)
        except Problem as refused:
            problem = refused
        except web.HTTPException as error:
            if error.status < 400:
                raise
            kept = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            problem = Problem(error.status, _MENDS.get(error.status, error.reason), headers=kept)
        except SQLAlchemyError as error:
            log.error("store failed", path=request.path, error=str(getattr(error, "orig", None) or error))
            problem = Problem(503, "nothing can be stored or read just now: try again", headers={"Retry-After": "2"})
        except RequestPayloadError:
            problem = Problem(400, "the body ended early, or is not in the coding that Content-Encoding says")
        except (ConnectionError, TimeoutError):
            if request.transport is None or request.transport.is_closing():  # the client went away: nobody is left to be answered
                raise
            log.exception("request failed", method=request.method, path=request.path)
            problem = Problem(500, _UNFORESEEN)
        except Exception:
            log.exception("request failed", method=request.method, path=request.path)
            problem = Problem(500, _UNFORESEEN)
        return problem.response(name)


_UNFORESEEN = "this is a fault of control, and it is in its log under this request_id: try again, and report it when it stays"


async def name_response(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler: every answer carries the request's name, and is taken for what it says it is."""
    name = request.get(REQUEST_ID)
    if name is not None:
        response.headers["X-Request-Id"] = name
    response.headers["Server"] = "trunkside"
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
