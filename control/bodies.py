"""What a request carries, read without giving a small body the memory of a large one."""

from __future__ import annotations

from aiohttp import web


async def whole(request: web.Request) -> bytes:
    """The body, decompressed. Raises HTTPRequestEntityTooLarge beyond the application's `client_max_size`.

    `Request.read` would do, but it unpacks in pieces as large as that limit, of which several are held at a time: 100 KB of gzip cost
    120 MB. Here the pieces are the connection's own, a quarter of a megabyte.
    """
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(request.client_max_size, len(body))
    return bytes(body)
