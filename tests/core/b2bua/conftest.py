"""Every scenario ends with the same question: is anything left?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.core.b2bua.harness import Bench


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    """Builds benches; what must hold at the end of every scenario is checked for each of them."""
    benches: list[Bench] = []

    def build(**options: object) -> Bench:
        benches.append(Bench(**options))  # type: ignore[arg-type]
        return benches[-1]

    yield build
    for bench in benches:
        bench.over()


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    """The plain one: an edge that needs no credentials, on a wire that loses nothing."""
    return make()
