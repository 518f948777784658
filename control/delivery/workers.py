"""All workers of a process, one a destination; the first is the evaluator's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from control.delivery.worker import Worker


class Workers:
    """Starts, wakes and ends them together."""

    def __init__(self, evaluator: Worker, others: Sequence[Worker] = ()) -> None:
        self._evaluator = evaluator
        self._all = (evaluator, *others)
        for worker in self._all:
            worker.queued = self.wake

    @property
    def destinations(self) -> list[str]:
        """Where this process delivers to."""
        return [worker.name for worker in self._all]

    @property
    def results(self) -> dict[str, int]:
        """What became of all attempts."""
        return {name: sum(worker.results[name] for worker in self._all) for name in self._evaluator.results}

    def describe(self) -> dict[str, object]:
        """Each worker's state by destination."""
        return {worker.name: worker.describe() for worker in self._all}

    def wake(self) -> None:
        """Look at the outbox now."""
        for worker in self._all:
            worker.wake()

    async def reply(self, delivery: int, timeout_s: float) -> dict[str, object]:
        """The evaluator's answer to a delivery: see `Worker.reply`."""
        return await self._evaluator.reply(delivery, timeout_s)

    async def run(self) -> None:
        """Deliver until cancelled or stopped."""
        async with asyncio.TaskGroup() as group:
            for worker in self._all:
                group.create_task(worker.run(), name=worker.name)

    def stop(self) -> None:
        """Begin nothing more; `run` ends when the attempts under way are over."""
        for worker in self._all:
            worker.stop()
