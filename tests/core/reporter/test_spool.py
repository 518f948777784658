"""The spool keeps every fact, mends what a crash left, and never lets the disk into a call."""

from __future__ import annotations

import json
import resource
import stat
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from control.contract.facts import FACT, CallInterrupted
from sidecar.reporter.spool import Chores, Spool, SpoolError
from tests.support.trace_lines import CALL_A, CALL_B, NOW, closed, line

OpenSpool = Callable[..., Spool]


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[OpenSpool]:
    opened: list[Spool] = []

    def _open(path: Path | None = None, **options: Any) -> Spool:
        spool = Spool.open(path or tmp_path / "spool", now=NOW, **options)
        opened.append(spool)
        return spool

    yield _open
    for spool in opened:
        spool.shut()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[list[MutableMapping[str, Any]]]:
    """A real refusal by the kernel: writes past `size` stop short, then fail. Gives the log lines meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with capture_logs() as lines:
            yield lines
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def no_further_file() -> Iterator[None]:
    """A real refusal by the kernel: no file can be opened, EMFILE."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open("/dev/null", "rb") as file:
        free = file.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def facts_on_disk(spool: Spool, call: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (spool.path / f"{call}.jsonl").read_bytes().splitlines()]


def test_a_fact_is_on_disk_when_append_returns(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(CALL_A, [line(CALL_A, 1), line(CALL_A, 2)])
    spool.append(CALL_A, [line(CALL_A, 3)])
    assert [fact["seq"] for fact in facts_on_disk(spool, CALL_A)] == [1, 2, 3]


def test_traces_are_not_readable_by_others(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(CALL_A, [line(CALL_A, 1)])
    assert not (spool.path / f"{CALL_A}.jsonl").stat().st_mode & stat.S_IRWXO


def test_a_call_id_that_is_none_cannot_name_a_file(open_spool: OpenSpool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trace id"):
        open_spool().append("../" + "a" * 29, [b"{}"])
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]


def test_a_finished_trace_leaves_only_when_control_has_all_of_it(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(CALL_A, [line(CALL_A, 1), closed(CALL_A, 2)])
    file = spool.path / f"{CALL_A}.jsonl"
    size = file.stat().st_size
    spool.acknowledge(CALL_A, size)
    assert file.exists(), "the call was not over"
    spool.append(CALL_A, [line(CALL_A, 3)])
    spool.close(CALL_A)
    assert file.exists(), "its last fact was not acknowledged"
    spool.acknowledge(CALL_A, file.stat().st_size)
    assert not file.exists()
    assert spool.describe()["bytes"] == 0
    assert not spool.backlog


def test_a_trace_acknowledged_before_its_call_ended_leaves_at_the_end(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(CALL_A, [closed(CALL_A, 1)])
    spool.acknowledge(CALL_A, (spool.path / f"{CALL_A}.jsonl").stat().st_size)
    spool.close(CALL_A)
    assert not list(spool.path.glob("*.jsonl"))


def test_sync_covers_closed_traces_once(open_spool: OpenSpool) -> None:
    spool = open_spool()
    for call in (CALL_A, CALL_B):
        spool.append(call, [closed(call, 1)])
        spool.close(call)
    taken = spool.take_unsynced()
    assert [trace.call for trace in taken] == [CALL_A, CALL_B]
    assert spool.sync(taken) is None
    assert spool.take_unsynced() == []


def test_a_failed_sync_is_told(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(CALL_A, [closed(CALL_A, 1)])
    spool.close(CALL_A)
    taken = spool.take_unsynced()
    file = spool.path / f"{CALL_A}.jsonl"
    file.unlink()
    file.symlink_to(file)  # opening it fails with ELOOP
    failure = spool.sync(taken)
    assert failure is not None
    assert CALL_A in failure
    spool.note_sync(failure)
    assert CALL_A in str(spool.problem())


# What a crash leaves


def test_a_call_found_open_ends_as_interrupted_with_the_next_number(open_spool: OpenSpool) -> None:
    first = open_spool()
    first.append(CALL_A, [line(CALL_A, 1), line(CALL_A, 2)])
    first.shut()
    spool = open_spool()
    assert list(spool.interrupted) == [CALL_A]
    last = FACT.validate_python(facts_on_disk(spool, CALL_A)[-1])
    assert isinstance(last, CallInterrupted)
    assert (last.call, last.seq, last.at, last.elapsed_ms) == (CALL_A, 3, NOW, 20.0)
    assert "after fact 2" in last.detail
    assert [trace.call for trace in spool.unsent()] == [CALL_A], "it is uploaded like any other"
    assert [trace.call for trace in spool.take_unsynced()] == [CALL_A]


def test_a_finished_trace_is_found_as_it_was(open_spool: OpenSpool) -> None:
    first = open_spool()
    first.append(CALL_A, [line(CALL_A, 1), closed(CALL_A, 2)])
    first.shut()
    spool = open_spool()
    assert [fact["kind"] for fact in facts_on_disk(spool, CALL_A)] == ["finding_made", "call_closed"]
    assert not spool.interrupted


def test_a_second_start_adds_nothing(open_spool: OpenSpool) -> None:
    first = open_spool()
    first.append(CALL_A, [line(CALL_A, 1)])
    first.shut()
    second = open_spool()
    second.shut()
    third = open_spool()
    assert [fact["seq"] for fact in facts_on_disk(third, CALL_A)] == [1, 2]


@pytest.mark.parametrize("tail", [b'{"call":"aaaa', b"\0" * 5000, b"\0\0\n\0\0", b'"half a line\n', b'{"seq":"x","kind":"y"}\n'], ids=repr)
def test_a_torn_end_is_cut_off(open_spool: OpenSpool, tail: bytes) -> None:
    first = open_spool()
    first.append(CALL_A, [line(CALL_A, 1), line(CALL_A, 2)])
    first.shut()
    with (first.path / f"{CALL_A}.jsonl").open("ab") as file:
        file.write(tail)
    spool = open_spool()
    assert [fact["seq"] for fact in facts_on_disk(spool, CALL_A)] == [1, 2, 3]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_trace_cut_at_any_byte_comes_back_whole(open_spool: OpenSpool, cut: int) -> None:
    first = open_spool()
    first.append(CALL_A, [line(CALL_A, 1), line(CALL_A, 2)])
    first.shut()
    file = first.path / f"{CALL_A}.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    assert [fact["seq"] for fact in facts_on_disk(open_spool(), CALL_A)] == [1, 2]


def test_a_file_without_a_whole_fact_is_gone(open_spool: OpenSpool) -> None:
    first = open_spool()
    first.shut()
    (first.path / f"{CALL_A}.jsonl").write_bytes(b'{"call')
    spool = open_spool()
    assert not list(spool.path.glob("*.jsonl"))
    assert not spool.backlog


def test_a_last_fact_longer_than_the_first_look_is_found(open_spool: OpenSpool) -> None:
    first = open_spool()
    first.append(CALL_A, [line(CALL_A, 1), line(CALL_A, 2, detail="x" * 300_000), closed(CALL_A, 3)])
    first.shut()
    file = first.path / f"{CALL_A}.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    spool = open_spool()
    assert [fact["seq"] for fact in facts_on_disk(spool, CALL_A)] == [1, 2, 3]
    assert list(spool.interrupted) == [CALL_A]


# A spool that cannot be used: one sentence each


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot be written: Not a directory"):
        Spool.open(tmp_path / "file" / "spool", now=NOW)


def test_two_sidecars_cannot_share_a_spool(open_spool: OpenSpool) -> None:
    first = open_spool()
    first.append(CALL_A, [line(CALL_A, 1)])
    with pytest.raises(SpoolError, match="in use by another running sidecar"):
        Spool.open(first.path, now=NOW)
    assert len(facts_on_disk(first, CALL_A)) == 1, "a live call was taken for a dead one"


# A disk that refuses


def test_facts_that_the_disk_refused_follow_in_order_and_whole(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(CALL_A, [line(CALL_A, 1)])
    size = (spool.path / f"{CALL_A}.jsonl").stat().st_size
    with no_file_larger_than(size + 10) as told:
        spool.append(CALL_A, [line(CALL_A, 2)])
        spool.append(CALL_A, [line(CALL_A, 3)])
        assert [entry["event"] for entry in told] == ["spool in trouble"]
        assert (spool.path / f"{CALL_A}.jsonl").stat().st_size == size, "half a line was left"
        assert "refuses facts" in str(spool.problem())
        assert spool.describe()["write_errors"] == 2
    spool.append(CALL_A, [line(CALL_A, 4)])
    assert [fact["seq"] for fact in facts_on_disk(spool, CALL_A)] == [1, 2, 3, 4]
    assert spool.problem() is None
    assert spool.describe()["lost_facts"] == 0


def test_a_call_that_ends_while_the_disk_refuses_is_closed_later(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(CALL_A, [line(CALL_A, 1)])
    with no_file_larger_than(1):
        spool.append(CALL_A, [closed(CALL_A, 2)])
        spool.close(CALL_A)
        spool.retry()
        spool.acknowledge(CALL_A, (spool.path / f"{CALL_A}.jsonl").stat().st_size)
        assert spool.take_unsynced() == []
        assert spool.backlog, "its last fact is not with control"
    spool.retry()
    assert [fact["kind"] for fact in facts_on_disk(spool, CALL_A)] == ["finding_made", "call_closed"]
    assert [trace.call for trace in spool.take_unsynced()] == [CALL_A]


def test_a_full_disk_never_raises_into_the_call(open_spool: OpenSpool) -> None:
    spool = open_spool()
    (spool.path / f"{CALL_A}.jsonl").symlink_to("/dev/full")
    spool.append(CALL_A, [line(CALL_A, 1)])
    spool.close(CALL_A)
    assert "No space left on device" in str(spool.problem())
    assert spool.describe()["waiting_bytes"] > 0


def test_memory_for_refused_facts_is_bounded_and_what_is_lost_is_counted(open_spool: OpenSpool) -> None:
    spool = open_spool(max_waiting=1000)
    with no_file_larger_than(0):
        for seq in range(1, 101):
            spool.append(CALL_A, [line(CALL_A, seq)])
        figures = spool.describe()
    assert figures["waiting_bytes"] <= 1000
    spool.append(CALL_A, [line(CALL_A, 101)])
    kept = len(facts_on_disk(spool, CALL_A))
    assert figures["lost_facts"] > 0
    assert kept + spool.describe()["lost_facts"] == 101


def test_an_interruption_that_cannot_be_written_at_start_is_written_later(open_spool: OpenSpool) -> None:
    first = open_spool()
    first.append(CALL_A, [line(CALL_A, 1)])
    first.shut()
    with no_file_larger_than(50):
        spool = open_spool()
        assert len(facts_on_disk(spool, CALL_A)) == 1
    spool.retry()
    assert facts_on_disk(spool, CALL_A)[-1]["kind"] == "call_interrupted"


# The bound


def test_at_the_bound_new_calls_get_no_trace_and_open_ones_are_finished(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=300)
    spool.append(CALL_A, [line(CALL_A, seq) for seq in (1, 2, 3)])
    spool.append(CALL_B, [line(CALL_B, 1)])
    spool.append(CALL_B, [line(CALL_B, 2)])
    spool.append(CALL_A, [closed(CALL_A, 4)])
    assert len(facts_on_disk(spool, CALL_A)) == 4
    assert not (spool.path / f"{CALL_B}.jsonl").exists()
    assert spool.describe()["untraced_calls"] == 1
    assert "bound" in str(spool.problem())
    spool.close(CALL_B)
    spool.close(CALL_A)
    spool.acknowledge(CALL_A, 10_000)
    spool.append("c" * 32, [line("c" * 32, 1)])
    assert (spool.path / ("c" * 32 + ".jsonl")).exists()
    assert spool.problem() is None


def test_at_the_bound_refused_facts_go_first(open_spool: OpenSpool) -> None:
    spool = open_spool(max_bytes=600)
    spool.append(CALL_A, [line(CALL_A, 1)])
    kept = spool.rejects.keep(CALL_A, line(CALL_A, 1), b"x" * 600)
    assert spool.problem() is not None
    spool.append(CALL_B, [line(CALL_B, 1)])
    assert (spool.path / f"{CALL_B}.jsonl").exists()
    assert not kept.exists() or not kept.with_suffix(".answer").exists()
    assert (spool.path / f"{CALL_A}.jsonl").exists()


def test_facts_after_the_end_are_counted_and_not_written(open_spool: OpenSpool) -> None:
    spool = open_spool()
    spool.append(CALL_A, [closed(CALL_A, 1)])
    spool.close(CALL_A)
    spool.append(CALL_A, [line(CALL_A, 2)])
    assert spool.describe()["late_facts"] == 1
    assert len(facts_on_disk(spool, CALL_A)) == 1


def chores_done(spool: Spool) -> None:
    """What the keeper does from time to time."""
    spool.done(spool.do(spool.take_chores()))


def spares(spool: Spool) -> list[Path]:
    return list(spool.path.glob(".spare-*"))


def test_a_trace_begins_in_a_file_made_ahead_and_gets_its_name_later(open_spool: OpenSpool) -> None:
    spool = open_spool()
    chores_done(spool)
    ahead = len(spares(spool))
    spool.append(CALL_A, [line(CALL_A, 1)])
    assert not (spool.path / f"{CALL_A}.jsonl").exists()
    chores_done(spool)
    assert [fact["seq"] for fact in facts_on_disk(spool, CALL_A)] == [1]
    spool.append(CALL_A, [closed(CALL_A, 2)])
    spool.close(CALL_A)
    assert [fact["seq"] for fact in facts_on_disk(spool, CALL_A)] == [1, 2]
    assert stat.S_IMODE((spool.path / f"{CALL_A}.jsonl").stat().st_mode) & 0o007 == 0
    spool.acknowledge(CALL_A, 1 << 20)
    chores_done(spool)
    assert len(spares(spool)) == len(list(spool.path.glob("*.jsonl"))) + ahead == ahead > 0


def test_a_trace_that_died_under_a_spare_name_is_known_by_what_it_says(open_spool: OpenSpool) -> None:
    first = open_spool()
    chores_done(first)
    first.append(CALL_A, [line(CALL_A, 1)])
    (written,) = [path for path in spares(first) if path.stat().st_size]
    kept = written.read_bytes()
    first.shut()
    written.write_bytes(kept + b'{"half')
    (first.path / ".spare-of-another-run").touch()
    second = open_spool()
    assert second.interrupted == (CALL_A,)
    assert [fact["seq"] for fact in facts_on_disk(second, CALL_A)] == [1, 2]
    assert spares(second) == []


def test_a_trace_that_goes_while_it_gets_its_name_leaves_no_file(open_spool: OpenSpool) -> None:
    for before in (True, False):
        spool = open_spool()
        chores_done(spool)
        spool.append(CALL_A, [closed(CALL_A, 1)])
        chores = spool.take_chores()
        if before:
            chores = spool.do(chores)
        spool.close(CALL_A)
        spool.acknowledge(CALL_A, 1 << 20)
        spool.done(chores if before else spool.do(chores))
        assert list(spool.path.glob("*.jsonl")) == []
        assert not any(path.stat().st_size for path in spares(spool))
        spool.shut()


def test_a_trace_that_kept_a_spare_name_is_no_other_calls_file(open_spool: OpenSpool) -> None:
    spool = open_spool()
    left = spool.take_chores().spares[3]
    left.write_bytes(line(CALL_A, 1) + b"\n")  # a process of the same id, as in a container, could not name it
    chores = spool.take_chores()
    spool.done(spool.do(Chores((), [left, *chores.spares])))
    for number in range(len(chores.spares)):
        spool.append(f"{number:032x}", [line(CALL_B, 1)])
    assert left.read_bytes() == line(CALL_A, 1) + b"\n"


@pytest.fixture
def renamed_unnoticed(open_spool: OpenSpool) -> Spool:
    """A trace whose file has just got its name, by a thread whose answer has not come yet, or never will: its task was cancelled."""
    spool = open_spool()
    spool.done(spool.do(spool.take_chores()))
    spool.append(CALL_A, [closed(CALL_A, 1)])
    spool.close(CALL_A)
    spool.do(spool.take_chores())
    return spool


def test_a_trace_is_read_while_it_gets_its_name(renamed_unnoticed: Spool) -> None:
    (trace,) = renamed_unnoticed.unsent()
    assert trace.read(0, 1 << 20) == [closed(CALL_A, 1)]


def test_a_trace_that_got_its_name_unnoticed_leaves_no_file(renamed_unnoticed: Spool) -> None:
    (trace,) = renamed_unnoticed.unsent()
    renamed_unnoticed.acknowledge(CALL_A, trace.size)
    assert not list(renamed_unnoticed.path.glob("*.jsonl"))


def test_a_trace_that_found_no_descriptor_is_written_where_its_file_went_meanwhile(open_spool: OpenSpool) -> None:
    spool = open_spool()
    chores_done(spool)
    with no_further_file():
        spool.append(CALL_A, [line(CALL_A, 1)])
    assert spool.refused_by_disk
    chores = spool.do(spool.take_chores())  # its empty file has its name, which the event loop does not know yet
    spool.retry()
    spool.done(chores)
    spool.append(CALL_A, [closed(CALL_A, 2)])
    spool.close(CALL_A)
    assert [fact["seq"] for fact in facts_on_disk(spool, CALL_A)] == [1, 2]
    assert not any(path.stat().st_size for path in spares(spool))


def test_a_directory_that_takes_no_files_leaves_the_traces_where_they_are(open_spool: OpenSpool) -> None:
    spool = open_spool()
    chores_done(spool)
    spool.append(CALL_A, [line(CALL_A, 1)])
    chores = spool.take_chores()
    (spool.path / f"{CALL_A}.jsonl").mkdir()  # nothing can take its place
    spool.done(spool.do(chores))
    spool.append(CALL_A, [line(CALL_A, 2)])
    (written,) = [path for path in spares(spool) if path.stat().st_size]
    assert len(written.read_bytes().splitlines()) == 2
