"""The guides: each configuration in them is one that `trunkside config check` accepts, with the preset that the guide speaks of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sidecar.cli import app
from sidecar.identity.presets import PRESETS

GUIDES = Path(__file__).parents[3] / "docs" / "guides"
SECRETS = "/etc/trunkside/secrets"
PLATFORMS = {
    "livekit.md": ["livekit"],
    "pipecat.md": ["daily", "twilio", "telnyx"],
    "vapi.md": ["vapi"],
    "retell.md": ["retell"],
    "jambonz.md": ["jambonz"],
    "asterisk.md": ["asterisk"],
    "freeswitch.md": ["freeswitch"],
}


def blocks(guide: str) -> list[str]:
    """The sidecar configurations of a guide."""
    return re.findall(r"```yaml\n(# sidecar\.yaml\n.*?)```", (GUIDES / guide).read_text(encoding="utf-8"), re.DOTALL)


ALL = [(guide.name, number) for guide in sorted(GUIDES.glob("*.md")) for number in range(len(blocks(guide.name)))]


@pytest.mark.parametrize(("guide", "number"), ALL)
def test_the_configuration_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guide: str, number: int) -> None:
    monkeypatch.chdir(tmp_path)
    text = blocks(guide)[number].replace(SECRETS, str(tmp_path))
    for name in re.findall(rf"{re.escape(str(tmp_path))}/([\w-]+)", text):
        (tmp_path / name).write_text("a text")
    file = tmp_path / "sidecar.yaml"
    file.write_text(text)
    done = CliRunner().invoke(app, ["config", "check", "--offline", str(file)])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("guide", PLATFORMS)
def test_each_platform_has_its_preset(guide: str) -> None:
    used = [yaml.safe_load(text)["routes"][0]["platform"] for text in blocks(guide)]
    assert used == PLATFORMS[guide]
    assert "The line that proves it" in (GUIDES / guide).read_text(encoding="utf-8")


@pytest.mark.parametrize("guide", PLATFORMS)
def test_what_the_agent_reads_is_what_the_preset_says(guide: str) -> None:
    """Each guide names a key under which the preset knows the Call-ID, quotes and braces aside."""
    text = re.sub(r"[\"'${}\[\]()]", "", (GUIDES / guide).read_text(encoding="utf-8"))
    for platform in PLATFORMS[guide]:
        preset = PRESETS[platform]
        keys = [key for header in preset.headers for key in preset.keys(header)]
        plain = [re.sub(r"[\"'${}\[\]()]", "", key) for key in keys]
        assert any(key in text or key.replace("data.payload.custom_headers", "") in text for key in plain), (platform, plain)


def test_every_guide_is_listed() -> None:
    index = (GUIDES / "README.md").read_text(encoding="utf-8")
    assert [guide.name for guide in GUIDES.glob("*.md") if guide.name != "README.md" and f"({guide.name})" not in index] == []


@pytest.mark.parametrize("guide", sorted(file.name for file in GUIDES.glob("*.md")))
def test_what_a_guide_refers_to_is_there(guide: str) -> None:
    text = (GUIDES / guide).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (GUIDES / link).exists(), link
    for place in re.findall(r"(?<![\w/])((?:k8s|configs)/[\w./-]+)", text):
        assert (GUIDES.parents[1] / place.rstrip(".")).exists(), place
