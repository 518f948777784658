"""Named telephone events (RFC 4733)."""

from __future__ import annotations

import struct

from sidecar.media.dtmf import Keypad


def event(number: int, duration: int, end: bool = False) -> bytes:
    return struct.pack("!BBH", number, 0x80 if end else 0x0A, duration)


def test_many_packets_are_one_press() -> None:
    keypad = Keypad()
    for duration in (160, 320, 480):
        keypad.packet(event(5, duration), 1000, 80)
    for _ in range(3):  # 2.5.1.4: the end is sent three times
        keypad.packet(event(5, 640, end=True), 1000, 80)
    assert [(p.digit, p.position, p.duration) for p in keypad.presses] == [("5", 80, 640)]


def test_the_same_key_twice_is_two_presses() -> None:
    keypad = Keypad()
    keypad.packet(event(11, 400, end=True), 1000, 80)
    keypad.packet(event(11, 400, end=True), 3000, 2080)
    assert [p.digit for p in keypad.presses] == ["#", "#"]


def test_a_press_longer_than_the_field_goes_on() -> None:  # 2.5.1.3
    keypad = Keypad()
    keypad.packet(event(1, 0xFFFF), 1000, 0)
    keypad.packet(event(1, 800, end=True), 1000 + 0xFFFF, 0)
    assert [(p.digit, p.duration) for p in keypad.presses] == [("1", 0xFFFF + 800)]


def test_short_and_foreign_events_change_nothing() -> None:
    keypad = Keypad()
    keypad.packet(b"\x05\x00", 0, 0)
    keypad.packet(event(36, 100), 0, 0)  # fax answering tone
    assert keypad.presses == []
