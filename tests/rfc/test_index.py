"""INDEX.md names every test of the RFCs that it lists, and no test that is not there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
INDEX = (HERE / "INDEX.md").read_text(encoding="utf-8")


def test_index_and_tests_are_in_step() -> None:
    sections = re.split(r"^Tests in `(\w+\.py)`\.$", INDEX, flags=re.MULTILINE)
    listed = {
        (name, test)
        for name, text in zip(sections[1::2], sections[2::2], strict=True)
        for test in re.findall(r"`(test_\w+)` \|$", text, re.MULTILINE)
    }
    files = {name for name, _ in listed}
    assert len(files) >= 10
    there = {
        (name, test) for name in files for test in re.findall(r"^def (test_\w+)", (HERE / name).read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert listed == there


def test_all_lists_name_tests_that_exist() -> None:
    lists = sorted(HERE.glob("INDEX*.md"))
    assert {path.name for path in lists} == {
        "INDEX.md",
        "INDEX-b2bua.md",
        "INDEX-dialog.md",
        "INDEX-identity.md",
        "INDEX-net.md",
        "INDEX-torture.md",
    }
    for path in lists:
        named = re.findall(r"`(?:([\w/]+\.py)::|(…))?(test_\w+)`", path.read_text(encoding="utf-8"))
        assert named, path.name
        last = ""
        for stated, again, test in named:
            # "…" stands for the file that was named last.
            file = last = last if again else stated
            places = [HERE.parents[1] / file if "/" in file else HERE / file] if file else sorted(HERE.glob("test_*.py"))
            assert any(f"def {test}(" in place.read_text(encoding="utf-8") for place in places), f"{path.name}: {file} {test}"


def test_every_test_named_by_a_clause_stands_in_a_list() -> None:
    lists = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("INDEX*.md"))
    # "`…a_port_leaves_…`" leaves out the beginning that is the clause's, "`test_rfc2782_…`" the end, and a file alone stands for all of it.
    ends = tuple(re.findall(r"`…(?!test_)(\w+)`", lists))
    beginnings = tuple(re.findall(r"`(?:[\w/]+\.py::)?(test_\w+_)…`", lists))
    unlisted = [
        f"{path.name}::{test}"
        for path in sorted(HERE.glob("test_rfc*.py"))
        if f"`{path.name}`" not in lists
        for test in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if f"{test}`" not in lists and not test.endswith(ends) and not test.startswith(beginnings)
    ]
    assert unlisted == []
