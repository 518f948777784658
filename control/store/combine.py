"""Many callers, one worker: whatever is submitted while a round runs shares the next one. This is what group commit rests on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from control.store.faults import Unavailable

T = TypeVar("T")
R = TypeVar("R")


class Combiner(Generic[T, R]):
    """Hands submitted items, in order, to `handle` in rounds of at most `weight_of_round`, one round at a time.

    Rounds begin at least `pace_s` apart, so that under load they are few and large; what comes after a quiet time is handled at once.
    `handle` gives a result or an exception for each item; what it raises itself is the answer to all of them. At most `most` items wait.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[T]], Awaitable[Sequence[R | BaseException]]],
        *,
        weight: Callable[[T], int] = lambda _: 1,
        weight_of_round: int,
        most: int,
        pace_s: float = 0.0,
    ) -> None:
        self._handle = handle
        self._weight = weight
        self._weight_of_round = weight_of_round
        self._most = most
        self._pace_s = pace_s
        self._next_round = 0.0
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self.rounds = self.items = 0

    async def submit(self, item: T) -> R:
        """The result for `item`, which is handled even when the caller stops waiting. Raises Unavailable when too many wait already."""
        if len(self._waiting) >= self._most:
            raise Unavailable(f"{self._most} writes wait for the database already")
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="combiner")
        return await answer

    async def close(self) -> None:
        """Wait until everything submitted is done."""
        while self._worker is not None and not self._worker.done():
            await asyncio.wait({self._worker})

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            if self._next_round > loop.time():
                await asyncio.sleep(self._next_round - loop.time())
            self._next_round = loop.time() + self._pace_s
            items, answers = self._round()
            round_ = asyncio.ensure_future(self._handle(items))
            await asyncio.wait({round_})
            error = asyncio.CancelledError() if round_.cancelled() else round_.exception()
            results: Sequence[R | BaseException] = [error] * len(items) if error is not None else round_.result()
            self.rounds, self.items = self.rounds + 1, self.items + len(items)
            for answer, result in zip(answers, results, strict=True):
                if answer.done():  # its caller has gone
                    continue
                if isinstance(result, BaseException):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)

    def _round(self) -> tuple[list[T], list[asyncio.Future[R]]]:
        items: list[T] = []
        answers: list[asyncio.Future[R]] = []
        weight = 0
        while self._waiting and (not items or weight + self._weight(self._waiting[0][0]) <= self._weight_of_round):
            item, answer = self._waiting.popleft()
            items.append(item)
            answers.append(answer)
            weight += self._weight(item)
        return items, answers
