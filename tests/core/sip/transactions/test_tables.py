"""The tables themselves: closed, with no way out of the end, and every timer they know is one that can be set."""

from __future__ import annotations

import pytest

from sidecar.sip.timing import Timing
from sidecar.sip.transactions.client import ClientInvite, ClientOther
from sidecar.sip.transactions.machine import Event, Machine, State
from sidecar.sip.transactions.server import ServerInvite, ServerOther

MACHINES: list[type[Machine]] = [ClientInvite, ClientOther, ServerInvite, ServerOther]
STATES = {
    ClientInvite: {State.CALLING, State.PROCEEDING, State.ACCEPTED, State.COMPLETED, State.TERMINATED},
    ClientOther: {State.TRYING, State.PROCEEDING, State.COMPLETED, State.TERMINATED},
    ServerInvite: {State.PROCEEDING, State.ACCEPTED, State.COMPLETED, State.CONFIRMED, State.TERMINATED},
    ServerOther: {State.TRYING, State.PROCEEDING, State.COMPLETED, State.TERMINATED},
}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_state_of_the_figure_is_there_and_can_be_left_but_the_last(machine: type[Machine]) -> None:
    table = machine.TRANSITIONS
    assert set(table) == STATES[machine]
    assert {after for row in table.values() for after, _ in row.values()} <= set(table)
    assert not table[State.TERMINATED]
    for state, row in table.items():
        assert state is State.TERMINATED or any(after is not state for after, _ in row.values())


@pytest.mark.parametrize("machine", MACHINES)
def test_termination_can_be_reached_from_every_state(machine: type[Machine]) -> None:
    reaching = {State.TERMINATED}
    for _ in State:
        reaching |= {state for state, row in machine.TRANSITIONS.items() if any(after in reaching for after, _ in row.values())}
    assert reaching == set(machine.TRANSITIONS)


def test_a_ringing_invite_has_no_timer_b() -> None:
    assert Event.TIMER_B not in ClientInvite.TRANSITIONS[State.PROCEEDING]


def test_the_timers_of_table_4() -> None:
    t = Timing()
    assert (t.timer_a, t.timer_b, t.timer_d, t.timer_e, t.timer_f, t.timer_g) == (0.5, 32.0, 32.0, 0.5, 32.0, 0.5)
    assert (t.timer_h, t.timer_i, t.timer_j, t.timer_k, t.timer_l, t.timer_m) == (32.0, 5.0, 32.0, 5.0, 32.0, 32.0)
    assert Timing(t1=1.0).timer_b == 64.0
