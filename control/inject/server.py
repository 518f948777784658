"""The webhook on its own TLS port: the API server speaks HTTPS only, and nothing else of control is reached through it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from control.bodies import whole
from control.config import Inject
from control.inject.files import Certificates, Followed
from control.inject.patch import Asked
from control.inject.review import Malformed, review
from control.inject.template import Template

log = structlog.get_logger()

LARGEST = 3 * 1024 * 1024
"""The API server's own limit on a request is 3 MiB."""


def create_webhook(template: Callable[[], Template]) -> web.Application:
    """`POST /inject` for labelled pods, `POST /inject/namespace` for pods of a labelled namespace. `template` is asked each time."""

    def handler(asked: Asked) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                answer = review(await whole(request), template(), asked)
            except Malformed as error:
                log.warning("admission review refused", cause=str(error))
                return web.Response(status=400, text=f"{error}\n")
            decision = answer.decision
            log.info("pod reviewed", namespace=answer.namespace, pod=answer.pod, result=decision.reason, refusal=decision.refusal)
            return web.json_response(answer.body)

        return handle

    app = web.Application(client_max_size=LARGEST)
    app.router.add_post("/inject", handler("pod"))
    app.router.add_post("/inject/namespace", handler("namespace"))
    return app


@asynccontextmanager
async def serving_webhook(settings: Inject, sock: socket.socket) -> AsyncIterator[str]:
    """The webhook on a bound socket, with certificates that follow their files; gives its URL."""
    template = Followed(settings.template)
    certificates = Certificates(settings.certificate, settings.key)
    runner = web.AppRunner(create_webhook(template.current), access_log=None, shutdown_timeout=5.0)
    follow = asyncio.create_task(certificates.follow(), name="webhook certificates")
    try:
        await runner.setup()
        await web.SockSite(runner, sock, ssl_context=certificates.context).start()
        host, port = sock.getsockname()[:2]
        yield f"https://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)
        await runner.cleanup()
