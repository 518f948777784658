"""What a route is. The table of routes is the one truth: routing, scopes, parameters and the OpenAPI document are all made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from control.api import parameters
from control.api.access import Access, Identity, Reporter
from control.api.answering import Answer, finish
from control.api.parameters import Query
from control.api.protocol import expect
from control.config import Scope

Schema = type[BaseModel] | Mapping[str, object]
Handler = Callable[[web.Request, Any], Awaitable[Answer]]
IDENTITY: web.RequestKey[Identity] = web.RequestKey("identity", Identity)
REPORTER: web.RequestKey[Reporter] = web.RequestKey("reporter", Reporter)

TEXT: Mapping[str, object] = {"type": "string"}
BINARY: Mapping[str, object] = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `query` None: parameters are not looked at. `errors`: statuses besides those that follow from the other fields.

    `access`: `scoped` asks for one of `scopes`; `reporter` for scope sync or the evaluator's key; `open` for nothing.
    """

    method: Literal["GET", "POST", "PUT"]
    path: str
    handler: Handler
    summary: str
    answer: Mapping[str, Schema]
    """Media type of the 200 to its schema."""
    scopes: tuple[Scope, ...] = ()
    access: Literal["scoped", "reporter", "open"] = "scoped"
    tag: str = "calls"
    description: str = ""
    query: type[BaseModel] | None = Query
    path_schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    """Of the parameter `id`, when the path has one."""
    body: Mapping[str, Schema] = field(default_factory=dict)
    conditional: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers with a meaning of their own, name to description."""
    errors: tuple[int, ...] = ()
    also_at: tuple[str, ...] = ()
    """Further paths that lead here, for clients that cannot be changed; not a part of the document."""

    @property
    def statuses(self) -> tuple[int, ...]:
        """Every error status that this route can answer."""
        found = {500, 503, *self.errors}
        found |= {400} if self.query is not None else set()
        found |= {401, 403, 429} if self.access != "open" else set()
        found |= {404} if "{" in self.path else set()
        found |= {413} if self.body else set()
        return tuple(sorted(found))


def register(app: web.Application, access: Access, routes: tuple[Route, ...]) -> None:
    """Put every route of the table into the application."""
    for route in routes:
        for path in (route.path, *route.also_at):
            add = {"GET": app.router.add_get, "POST": app.router.add_post, "PUT": app.router.add_put}[route.method]
            add(path, _handler(route, access), expect_handler=expect)


def _handler(route: Route, access: Access) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        if route.access != "open":
            await access.refresh()
        if route.access == "scoped":
            request[IDENTITY] = access.require(request, *route.scopes)
        elif route.access == "reporter":
            request[REPORTER] = access.reporter(request)
        query = parameters.read(route.query, request) if route.query is not None else None
        return finish(request, await route.handler(request, query), conditional=route.conditional)

    return handle
