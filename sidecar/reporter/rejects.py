"""Facts that control refused for good: kept beside the spool with control's answer, so that nothing is lost and nothing is held up."""

from __future__ import annotations

import json
import os
from pathlib import Path


class Rejects:
    """The folder `rejected/`: one `<call>-<seq>.json` a fact, with the answer in `<call>-<seq>.answer`."""

    def __init__(self, path: Path) -> None:
        """The folder is made when the first fact needs it. Raises OSError if it is there and cannot be listed."""
        self.path = path
        files = [entry.stat().st_size for entry in os.scandir(path)] if path.is_dir() else []
        self.bytes = sum(files)
        self.count = len(files) // 2

    def keep(self, call: str, fact: bytes, answer: bytes) -> Path:
        """Write a refused fact and the answer to it; returns the fact's file. Raises OSError."""
        self.path.mkdir(exist_ok=True)
        base = self.path / f"{call}-{_seq(fact)}"
        new = 0
        for path, content in ((base.with_suffix(".json"), fact), (base.with_suffix(".answer"), answer)):
            old = path.stat().st_size if path.exists() else None
            path.write_bytes(content)
            self.bytes += len(content) - (old or 0)
            new += old is None
        self.count += new // 2
        return base.with_suffix(".json")

    def shrink(self, needed: int) -> None:
        """Remove the oldest files until `needed` bytes are free, or none is left. Raises OSError."""
        if not self.path.is_dir():
            return
        files = sorted((entry.stat().st_mtime_ns, entry.name, entry.stat().st_size) for entry in os.scandir(self.path))
        for _, name, size in files:
            if needed <= 0:
                break
            (self.path / name).unlink()
            self.bytes -= size
            needed -= size
            self.count -= name.endswith(".json")


def _seq(fact: bytes) -> int:
    """The fact's own number; 0 for a line that is no fact at all."""
    try:
        value = json.loads(fact)
    except ValueError:
        return 0
    seq = value.get("seq") if isinstance(value, dict) else None
    return seq if isinstance(seq, int) else 0
