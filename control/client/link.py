"""The way to a control plane: one HTTP session, and errors that are one line a person can act on."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic import BaseModel, ValidationError

from control.client.errors import ClientError
from control.contract.answers import CallPage, Ladder, Messages, ProblemDetails
from control.contract.call import Call

M = TypeVar("M", bound=BaseModel)
Parameters = Mapping[str, str]
_RECENT = 500
"""Calls among which the beginning of an id is looked for."""


@dataclass(frozen=True, slots=True)
class Address:
    """Which control plane, and who asks."""

    url: str
    token: str | None = None
    ca: Path | None = None
    """PEM file of who vouches for its certificate; None: the system's."""
    timeout_s: float = 15.0

    @classmethod
    def of(cls, url: str, token: str | None, token_file: Path | None, ca: Path | None, timeout_s: float) -> Self:
        """From what was typed. Raises ClientError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"--control {url}: is no URL of the form http://127.0.0.1:8080")
        if token_file is not None:
            if token is not None:
                raise ClientError("give --token or --token-file, not both")
            try:
                token = token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ClientError(f"--token-file {token_file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
            if not token:
                raise ClientError(f"--token-file {token_file}: is empty")
        if token is not None and not token.isprintable():
            raise ClientError("the token has characters that no header can hold")
        return cls(url.rstrip("/"), token, ca, timeout_s)


class Link:
    """Asks one control plane. Every method raises ClientError."""

    def __init__(self, session: aiohttp.ClientSession, address: Address) -> None:
        self._session = session
        self._address = address

    async def call(self, call_id: str) -> Call:
        """The call with exactly this id."""
        return await self._get(Call, f"/v1/calls/{_safe(call_id)}")

    async def page(self, parameters: Parameters, cursor: str | None = None) -> CallPage:
        """A page of calls, newest first."""
        return await self._get(CallPage, "/v1/calls", {**parameters, **({"cursor": cursor} if cursor else {})})

    async def ladder(self, call_id: str) -> Ladder:
        """The steps of a call's ladder."""
        return await self._get(Ladder, f"/v1/calls/{_safe(call_id)}/ladder", {"format": "json"})

    async def messages(self, call_id: str) -> Messages:
        """The SIP messages of a call."""
        return await self._get(Messages, f"/v1/calls/{_safe(call_id)}/messages")

    async def view(self, call_id: str, view: str, parameters: Parameters | None = None) -> bytes:
        """A file that control makes of a call: `pcap`, `evidence`, `vcon`, `ladder`."""
        async with self.ask(f"/v1/calls/{_safe(call_id)}/{view}", parameters) as answer:
            return await answer.read()

    async def every(self, parameters: Parameters) -> AsyncIterator[Call]:
        """All calls under a filter, newest first, as they come."""
        async with self.ask("/v1/export", parameters, endless=True) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        yield _read(Call, line)
            if rest:
                raise ClientError("control broke off in the middle of its list: ask again")

    async def find(self, name: str) -> Call:
        """The call that a person means: an id, the beginning of a recent one, a Call-ID of the caller's leg, or `last`."""
        if name == "last":
            newest = (await self.page({"limit": "1"})).calls
            if not newest:
                raise ClientError("control knows no call yet")
            return newest[0]
        try:
            return await self.call(name)
        except _NotFound:
            pass
        same = (await self.page({"sip_call_id": name, "limit": "2"})).calls
        if same:
            return same[0]  # the newest, when a caller used one Call-ID twice
        beginning = [call for call in (await self.page({"limit": str(_RECENT)})).calls if call.id.startswith(name)]
        if len(beginning) == 1:
            return beginning[0]
        if beginning:
            raise ClientError(f"{len(beginning)} calls begin with {name}: give more of the id")
        raise ClientError(f"no call has the id or Call-ID {name}, and none of the last {_RECENT} begins so: see `trunkside calls list`")

    @asynccontextmanager
    async def ask(
        self, path: str, parameters: Parameters | None = None, *, headers: Mapping[str, str] | None = None, endless: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a GET, with status 200. `endless`: it may take any time, as long as something comes."""
        patience = aiohttp.ClientTimeout(
            total=None if endless else self._address.timeout_s, sock_connect=self._address.timeout_s, sock_read=60.0 if endless else None
        )
        url = self._address.url + path
        try:
            async with self._session.get(url, params=parameters or {}, headers=headers or {}, timeout=patience) as answer:
                if answer.status != 200:
                    raise await _refusal(answer, self._address)
                yield answer
        except aiohttp.ClientConnectorCertificateError as error:
            raise ClientError(f"{self._address.url}: its certificate is not trusted: {error.certificate_error}; give --ca FILE") from None
        except aiohttp.ClientConnectorError as error:
            # asyncio's own text repeats the address; the system's says why.
            number = error.os_error.errno
            why = os.strerror(number) if number is not None and number > 0 else str(error.os_error)
            raise ClientError(f"control at {self._address.url} cannot be reached: {why}; say where it is with --control URL") from None
        except TimeoutError:
            raise ClientError(f"control at {self._address.url} did not answer within {self._address.timeout_s:g} s") from None
        except aiohttp.ClientPayloadError:
            raise ClientError("control broke off in the middle of its answer: ask again") from None
        except aiohttp.ClientError as error:
            raise ClientError(f"{self._address.url} does not speak HTTP as control does: {error}") from None

    async def _get(self, model: type[M], path: str, parameters: Parameters | None = None) -> M:
        async with self.ask(path, parameters) as answer:
            return _read(model, await answer.read())


class _NotFound(ClientError):
    """Status 404."""


@asynccontextmanager
async def connect(address: Address) -> AsyncIterator[Link]:
    """A link for the length of a block. Raises ClientError for a certificate file that cannot be used."""
    headers = {"Authorization": f"Bearer {address.token}"} if address.token is not None else {}
    try:
        tls: ssl.SSLContext | bool = ssl.create_default_context(cafile=str(address.ca)) if address.ca is not None else True
    except (OSError, ssl.SSLError) as error:
        raise ClientError(f"--ca {address.ca}: cannot be used: {getattr(error, 'strerror', None) or error}") from None
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(headers=headers, connector=connector, trust_env=True) as session:
        yield Link(session, address)


async def _refusal(answer: aiohttp.ClientResponse, address: Address) -> ClientError:
    text = await answer.read()
    try:
        detail = ProblemDetails.model_validate_json(text).detail
    except ValidationError:
        detail = f"status {answer.status} from {address.url}, and not from control: is --control right?"
    if answer.status == 404:
        return _NotFound(detail)
    if answer.status in (401, 403):
        given = "give --token-file FILE" if address.token is None else "the token that was given does not do"
        return ClientError(f"control wants a token of scope read: {given} ({detail})")
    return ClientError(detail)


def _read(model: type[M], data: bytes) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or model.__name__
        raise ClientError(f"control's answer cannot be read ({place}: {first['msg']}): are both of one version?") from None


def _safe(segment: str) -> str:
    """As one segment of a path; `.` and `..` would be taken for steps."""
    return quote(segment, safe="") if segment.strip(".") else "%00"
