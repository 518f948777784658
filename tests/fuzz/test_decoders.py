"""The corpus, and some hundred broken inputs for each decoder: enough to notice that a door was left open, `make fuzz` looks longer."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.decoders import DECODERS, PART
from tests.fuzz.inputs import CORPUS, changed, seeds

INPUTS = {"conversation": 120, "handshake": 100, "configuration": 60, "media": 200}
"""How many, of those that take long; 400 of the others."""


@pytest.mark.parametrize("name", DECODERS)
def test_the_corpus_is_read(name: str) -> None:
    found = seeds(name)
    assert len(found) >= 3
    for data in found:
        DECODERS[name](data)


def test_every_folder_of_the_corpus_is_a_decoders() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(DECODERS)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_returns_whatever_it_is_given(name: str) -> None:
    good, draw = seeds(name), random.Random(name)
    for _ in range(INPUTS.get(name, 400)):
        DECODERS[name](changed(draw, good))


OCTETS = st.one_of(st.binary(max_size=200), st.lists(st.binary(max_size=40), max_size=5).map(PART.join))


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_decoder_returns_whatever_hypothesis_finds(name: str, data: st.DataObject) -> None:
    good = seeds(name)
    seeded = st.tuples(st.integers(0, 2**32), st.integers(1, 3)).map(lambda drawn: changed(random.Random(drawn[0]), good))
    DECODERS[name](data.draw(st.one_of(OCTETS, seeded)))
