"""Two hundred calls at once, their reports in any order, a third of the ids missing: no link is wrong, and every repair says its rule."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from control.config import ControlConfig
from control.store import Store
from control.store.schema import deliveries
from tests.core.control.traces import Trace, report
from tests.shell.control.kit import Client, Evaluator, control, evaluator, settings, until

CALLS = 200
PHONES = 300
"""Few enough that some calls at one time come from the same number, and enough that others have theirs alone."""
PIECES = (slice(0, 4), slice(4, 7), slice(7, None))
"""In which a trace comes."""
RULE = {
    "header": "correlation_id",
    "hexed": "a_leg_call_id",
    "platform": "platform_id",
    "token": "correlation_id",
    "renamed": "a_leg_call_id",
}
UNCERTAIN = ("phone", "nothing", "wrong")
LOST = (*RULE, *UNCERTAIN)
"""What is left of the identity in a report that lacks `sip_call_id`, or has another value there."""


@dataclass(frozen=True)
class Placed:
    """A call that was placed, and what becomes of its identity on the way to the agent."""

    number: int
    trace: Trace
    body: dict[str, Any]
    lost: str | None

    @property
    def sip_call_id(self) -> str:
        return self.trace.sip_call_id


def place(number: int, dice: random.Random) -> Placed:
    """One of the calls. All overlap in time, all reach the same agent."""
    began = datetime.now(UTC) - timedelta(seconds=40, milliseconds=dice.randrange(9000))
    token, phone, platform = f"{dice.getrandbits(128):032x}", f"+1555{dice.randrange(PHONES):07}", f"CA{dice.getrandbits(64):016x}"
    trace = Trace(
        f"{number:032x}", f"SCL_{dice.getrandbits(80):x}", token=token, started=began, **{"from": f"sip:{phone}@evaluator.example"}
    )
    trace.add("id_learned", 3, name="twilio_call_sid", value=platform).answered().ended(20_000 + dice.randrange(5000))
    lost = dice.choice(LOST) if number % 3 == 0 else None
    said: dict[str, dict[str, Any]] = {
        "header": {"sip_headers": {"X-Correlation-Id": token}},
        "hexed": {"general_meta_data_raw": {"ph_sipcallid": trace.sip_call_id.encode().hex()}},
        "platform": {"metadata": {"call_sid": platform}},
        "token": {"sip_call_id": token},
        "phone": {"caller_phone_number": phone},
        "nothing": {},
        "wrong": {"sip_call_id": f"unknown-{number}"},
        "renamed": {"sip_headers": {"SipHeader_X-CID": trace.sip_call_id}},
    }
    body = report(f"r{number}", trace, **(said[lost] if lost is not None else {"sip_call_id": trace.sip_call_id}))
    return Placed(number, trace, body | {"end_timestamp": body["start_timestamp"] + 22}, lost)


async def act(client: Client, placed: list[Placed], dice: random.Random) -> None:
    """Traces in pieces, reports once or twice, in one random order, sixteen posts at a time."""
    steps: list[tuple[float, Placed, int | None]] = []  # when, of which call, which piece of the trace; None: the report
    for each in placed:
        steps += [(at, each, piece) for piece, at in enumerate(sorted(dice.random() for _ in PIECES))]
        steps += [(dice.random(), each, None) for _ in range(dice.choice((1, 1, 2)))]
    lanes: list[list[tuple[Placed, int | None]]] = [[] for _ in range(16)]
    for _, each, piece in sorted(steps, key=lambda step: step[0]):
        lanes[each.number % len(lanes)].append((each, piece))

    async def lane(work: list[tuple[Placed, int | None]]) -> None:
        for each, piece in work:
            if piece is None:
                await client.report(each.body)
            else:
                await client.facts(*each.trace.facts[PIECES[piece]])

    await asyncio.gather(*map(lane, lanes))


async def test_no_link_is_wrong_and_every_repair_states_its_rule(tmp_path: Path) -> None:
    dice = random.Random(20261122)
    placed = [place(number, dice) for number in range(CALLS)]
    async with evaluator() as tuner:
        config = settings(tmp_path, tuner.base_url, enrich_wait_s=3600)
        async with control(config) as client:
            await act(client, placed, dice)
            certain = {f"r{each.number}" for each in placed if each.lost not in UNCERTAIN}
            await until(lambda: certain <= set(tuner.calls()), 60)
            assert certain == set(tuner.calls())  # what rests on circumstances waits for calls that may fit as well
        await an_hour_passes(config)
        async with control(config.model_copy(update={"enrich_wait_s": 0})) as client:
            await until(lambda: len(set(tuner.calls())) == CALLS, 60)
            shown = {each["id"]: each for each in (await client.get("/v1/calls?limit=500"))["calls"]}
    assert (len(tuner.received), len(shown)) == (CALLS, CALLS)
    for each in placed:
        judge(each, shown[each.trace.call], tuner, placed)
    repaired = [call["verdict"]["repair"]["rule"] for call in shown.values() if call["verdict"]["outcome"] == "repaired"]
    assert {"a_leg_call_id", "platform_id", "correlation_id", "to_from_time"} == set(repaired)


async def an_hour_passes(config: ControlConfig) -> None:
    """What waits in the outbox falls due."""

    async def work(conn: AsyncConnection) -> None:
        await conn.execute(sa.update(deliveries).where(deliveries.c.state == "pending").values(next_at_us=0))

    store = Store(config.database)
    await store.run(work)
    await store.close()


def judge(placed: Placed, call: dict[str, Any], tuner: Evaluator, everybody: list[Placed]) -> None:
    """Hold what control says, and what the evaluator got, against what was really placed."""
    verdict, repair = call["verdict"], call["verdict"]["repair"]
    caller = placed.trace.facts[0]["from"]
    alone = sum(each.trace.facts[0]["from"] == caller for each in everybody) == 1
    match placed.lost:
        case None:
            assert (verdict["outcome"], repair) == ("linked", None)
        case "phone" if alone:
            assert (verdict["outcome"], repair["rule"]) == ("repaired", "to_from_time")
        case "phone":  # several calls of one number at one time are never guessed between
            assert (verdict["outcome"], repair) == ("conflict", None)
        case "nothing" | "wrong":
            assert verdict["outcome"] in ("pending", "conflict")
        case lost:
            assert (verdict["outcome"], repair["rule"]) == ("repaired", RULE[lost])
    [sent] = [json.loads(body) for call_id, body in tuner.received if call_id == f"r{placed.number}"]
    mended = verdict["outcome"] in ("linked", "repaired")
    assert sent.get("sip_call_id") == (placed.sip_call_id if mended else placed.body.get("sip_call_id"))
    inside = sent["general_meta_data_raw"].get("trunkside")
    assert (inside or {}).get("id") == (call["id"] if mended else None)
