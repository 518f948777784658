"""What the fixtures hand out."""

from __future__ import annotations

from typing import Protocol

from tests.core.b2bua.harness import Bench


class Make(Protocol):
    """Builds a bench from the options of `Bench`."""

    def __call__(self, **options: object) -> Bench: ...
