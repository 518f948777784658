"""The evaluator Tuner: Create Call and OTLP traces over HTTP, and what its statuses mean for a retry."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from datetime import datetime

import aiohttp

from control.delivery.destination import Delivered, Later, Parcel, Refused, Result, retry_after_s, shorten

_PATHS = {"create_call": "/api/v1/public/call", "traces": "/api/v1/traces"}
_NEVER = {
    400: "the evaluator calls the request bad",
    401: "the evaluator does not know the API key",
    403: "the API key is not for this workspace",
    404: "the evaluator does not know this workspace or agent",
    413: "the evaluator finds it too large",
    422: "the evaluator finds the report invalid",
}


class Tuner:
    """Sends with the session it is given; the session's owner closes it."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, timeout_s: float, now: Callable[[], datetime]) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._now = now

    async def send(self, parcel: Parcel) -> Result:
        """One attempt. Without a key there is nothing to try."""
        if parcel.key is None:
            return Refused("no evaluator API key: set evaluator.api_key, or let the agent send its own")
        params = {"workspace_id": parcel.workspace, "agent_remote_identifier": parcel.agent} if parcel.kind == "create_call" else None
        headers = {"Authorization": f"Bearer {parcel.key}", "Content-Type": parcel.content_type}
        try:
            async with self._session.post(
                self._base_url + _PATHS[parcel.kind],
                params=params,
                data=io.BytesIO(parcel.body),
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                text = (await response.content.read(64 * 1024)).decode("utf-8", "replace")
                return self._judge(response.status, response.headers.get("Retry-After"), text)
        except TimeoutError:
            return Later("the evaluator did not answer in time")
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            return Later(f"the evaluator cannot be reached: {error}")

    def _judge(self, status: int, retry_after: str | None, text: str) -> Result:
        if status in (200, 201):
            reply = _object(text)
            again = " (it had it already)" if reply.get("is_new") is False else ""
            return Delivered(f"the evaluator answered {status}{again}", reply)
        if 200 < status < 300:
            return Delivered(f"the evaluator answered {status}")
        if status == 409:
            return Delivered("the evaluator answered 409 (it had it already)")
        if status in _NEVER:
            return Refused(f"{status}: {_NEVER[status]}: {shorten(text)}")
        if status == 429 or status >= 500 or status == 408:
            return Later(f"the evaluator answered {status}: {shorten(text)}", retry_after_s(retry_after, self._now()))
        return Refused(f"{status}: an answer that Create Call does not have: {shorten(text)}")


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
