"""`python -m tests.mutants [WORD…]`: break each protection (those whose name holds a WORD) in a copy of the tree, and run its test there.

Exit status 1 when a test passes although what it protects is broken, or fails although nothing is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
_LEFT = (".git", ".venv*", "__pycache__", "var", ".*_cache", ".hypothesis", "dist", "node_modules")


def fails(tree: Path, test: str) -> bool:
    """Whether the test fails in `tree`. Raises SystemExit where it could not be run."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(tree)})
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def killed(tree: Path, mutant: Mutant) -> bool:
    """Whether the test notices. The file is put back."""
    path = tree / mutant.file
    good = path.read_text(encoding="utf-8")
    path.write_text(good.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return fails(tree, mutant.test)
    finally:
        path.write_text(good, encoding="utf-8")


def main() -> int:
    """The table."""
    asked = [mutant for mutant in MUTANTS if all(word in mutant.protection for word in sys.argv[1:])]
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*_LEFT))
        print(f"{'protection, broken':<36} {'whole':<7} {'broken':<9} test")  # noqa: T201
        for mutant in asked:
            whole, noticed = not fails(tree, mutant.test), killed(tree, mutant)
            survived += not (whole and noticed)
            words = ("passes" if whole else "FAILS", "fails" if noticed else "SURVIVES")
            print(f"{mutant.protection:<36} {words[0]:<7} {words[1]:<9} {mutant.test}", flush=True)  # noqa: T201
    print(f"{len(asked) - survived} of {len(asked)} noticed")  # noqa: T201
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
