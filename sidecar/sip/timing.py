"""The time constants of RFC 3261 table 4 and RFC 6026, as one value that is passed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds.

    The derived timers are those of an unreliable transport; on a reliable one D, I, J and K are zero and A, E and G never run.
    """

    t1: float = 0.5
    """Estimate of the round trip."""
    t2: float = 4.0
    """Longest retransmit interval of non-INVITE requests and INVITE responses."""
    t4: float = 5.0
    """Longest time that a message stays in the network."""

    @property
    def give_up(self) -> float:
        """64*T1: timers B, F, H, J, L, M, the wait for the ACK of a 2xx (13.3.1.4) and for the final response after CANCEL (9.1)."""
        return 64 * self.t1

    @property
    def timer_a(self) -> float:
        """First INVITE retransmission; doubles without limit."""
        return self.t1

    @property
    def timer_b(self) -> float:
        """INVITE without any response."""
        return self.give_up

    @property
    def timer_d(self) -> float:
        """Wait for retransmissions of a non-2xx final: at least 32 s with the default T1 (17.1.1.2)."""
        return self.give_up

    @property
    def timer_e(self) -> float:
        """First non-INVITE retransmission; doubles up to T2."""
        return self.t1

    @property
    def timer_f(self) -> float:
        """Non-INVITE without a final response."""
        return self.give_up

    @property
    def timer_g(self) -> float:
        """First retransmission of an INVITE's final response; doubles up to T2."""
        return self.t1

    @property
    def timer_h(self) -> float:
        """Wait for the ACK of a non-2xx."""
        return self.give_up

    @property
    def timer_i(self) -> float:
        """Wait for retransmissions of that ACK."""
        return self.t4

    @property
    def timer_j(self) -> float:
        """Wait for retransmissions of an answered non-INVITE request."""
        return self.give_up

    @property
    def timer_k(self) -> float:
        """Wait for retransmissions of a non-INVITE's final response."""
        return self.t4

    @property
    def timer_l(self) -> float:
        """Wait for retransmissions of an accepted INVITE (RFC 6026 8.11)."""
        return self.give_up

    @property
    def timer_m(self) -> float:
        """Wait for further 2xx to an INVITE (RFC 6026 8.11)."""
        return self.give_up
