"""What the admin port's metrics say of the identity of calls."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from sidecar.figures import Figures
from sidecar.identity.findings import FINDINGS
from sidecar.status import Status
from tests.support.relay import Relay, route


def test_every_finding_is_a_counter_from_the_start() -> None:
    relay = Relay(route("exotel"))
    relay.call("sip:1@exotel.test", call_id="one")
    relay.call("sip:1@exotel.test", call_id="two")
    idle = SimpleNamespace(
        pool=SimpleNamespace(free=1), reporter=SimpleNamespace(spool=SimpleNamespace(describe=dict)), ended=Counter(), figures=Figures()
    )
    found = next(
        metric
        for metric in Status(SimpleNamespace(engine=relay.engine, **vars(idle))).metrics()  # type: ignore[arg-type]
        if metric.name == "trunkside_identity_findings"
    )
    values = {sample.labels["name"]: sample.value for sample in found.samples}
    assert values == dict.fromkeys(FINDINGS, 0) | {"carriage_none": 2}
