"""What the sidecar counts of the calls that have ended."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from control.contract.call import BargeIn, Media, Speech, Stream
from sidecar.b2bua import effects as e
from sidecar.figures import Figures
from sidecar.turns.measured import Measured
from tests.core.control.client.calls import turn

CALL = "4bf92f3577b34da6a3ce929d0e0e4736"


def samples(figures: Figures) -> list[Sample]:
    """As a scraper that accepts OpenMetrics reads them."""
    registry = CollectorRegistry()
    registry.register(figures)  # type: ignore[arg-type]
    return [sample for family in text_string_to_metric_families(generate_latest(registry).decode()) for sample in family.samples]


def value(found: list[Sample], name: str, **labels: str) -> float:
    [number] = [each.value for each in found if each.name == name and all(each.labels.get(key) == text for key, text in labels.items())]
    return number


def test_a_call_counts_once_by_route_kind_status_and_who_ended_it() -> None:
    figures = Figures()
    figures.ended("agent", "simulation", e.Ended(CALL, 200, "caller", "completed", "", e.SetupTimings(to_answer=0.4)), 21.5)
    figures.ended("agent", "simulation", e.Ended(CALL, 486, "agent", "busy", "", e.SetupTimings()), None)
    found = samples(figures)
    assert value(found, "trunkside_calls_finished_total", status="2xx", ended_by="caller", route="agent", kind="simulation") == 1
    assert value(found, "trunkside_calls_finished_total", status="4xx", ended_by="agent") == 1
    assert value(found, "trunkside_call_setup_seconds_count") == value(found, "trunkside_call_duration_seconds_count") == 1
    assert value(found, "trunkside_call_setup_seconds_bucket", le="0.5") == 1
    assert value(found, "trunkside_call_setup_seconds_bucket", le="0.2") == 0


def test_latencies_count_in_seconds_with_the_call_as_exemplar() -> None:
    figures = Figures()
    turns = [turn(1, 620.0), turn(2, 1300.0), turn(3, -50.0, kind="overlap")]
    media = Media(caller=Stream(packets=1000, lost=3), agent=Stream(packets=900, lost=-1), tap_dropped=2, refused=1)
    barge_ins = [BargeIn(kind="barge_in", caller_start_ms=1, latency_ms=280.0), BargeIn(kind="failed", caller_start_ms=2)]
    figures.measured(CALL, "agent", "simulation", Measured(turns, barge_ins, Speech(), media, 390.0, None), [0.0001, 0.0004])
    found = samples(figures)
    assert value(found, "trunkside_response_latency_seconds_count") == 2
    assert value(found, "trunkside_response_latency_seconds_sum") == 1.92
    assert (
        value(found, "trunkside_greeting_seconds_bucket", le="0.4") == value(found, "trunkside_barge_in_stop_seconds_bucket", le="0.3") == 1
    )
    assert value(found, "trunkside_rtp_packets_total", party="caller") == 1000
    assert value(found, "trunkside_rtp_packets_lost_total", party="caller") == 3
    assert value(found, "trunkside_rtp_packets_lost_total", party="agent") == 0  # duplicates can make it negative (RFC 3550)
    assert (value(found, "trunkside_tap_dropped_packets_total"), value(found, "trunkside_rtp_refused_packets_total")) == (2, 1)
    assert value(found, "trunkside_relay_delay_seconds_count") == 2
    exemplars = {each.exemplar.labels["trace_id"] for each in found if each.exemplar is not None}
    assert exemplars == {CALL}
    slow = next(each for each in found if each.name == "trunkside_response_latency_seconds_bucket" and each.labels["le"] == "1.5")
    assert slow.exemplar is not None
    assert slow.exemplar.value == 1.3


def test_of_many_relay_delays_an_even_sample_is_counted() -> None:
    figures = Figures()
    figures.measured(CALL, "agent", "production", Measured([], [], Speech(), Media(), None, None), [n * 1e-6 for n in range(2048)])
    found = samples(figures)
    assert 64 <= value(found, "trunkside_relay_delay_seconds_count") <= 70
    share = value(found, "trunkside_relay_delay_seconds_bucket", le="0.001") / value(found, "trunkside_relay_delay_seconds_count")
    assert abs(share - 1000 / 2048) < 0.02
