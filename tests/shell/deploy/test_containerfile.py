"""The Containerfile: what it promises, as a linter and a reader see it, and its steps carried out where no container engine is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import containerfile
from tests.support.kube import K8S

ROOT = Path(__file__).parents[3]
FILE = ROOT / "configs" / "Containerfile"
BEFORE, STAGES = containerfile.read(FILE)
FINAL = ["sidecar", "control"]


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([Path(sys.prefix) / "bin" / "hadolint", "--no-color", FILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_base_is_pinned_by_a_digest_that_must_be_given() -> None:
    assert "PYTHON_DIGEST" in [instruction.text for instruction in BEFORE if instruction.name == "ARG"], (
        "a default would be an unpinned build"
    )
    for stage in STAGES:
        assert stage.base in {other.name for other in STAGES} or stage.base.endswith("@${PYTHON_DIGEST}"), stage.base


@pytest.mark.parametrize("target", FINAL)
def test_the_image_runs_as_the_user_that_the_pods_name(target: str) -> None:
    pod = yaml.safe_load((K8S / "base" / "control.yaml").read_text(encoding="utf-8").split("---")[0])["spec"]["template"]["spec"]
    expected = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    user = next(found for stage in reversed(containerfile.lineage(STAGES, target)) if (found := stage.last("USER")))
    assert user.text == expected


@pytest.mark.parametrize(("target", "config"), [("sidecar", "sidecar.yaml"), ("control", "control.yaml")])
def test_the_health_check_asks_the_port_that_the_configuration_opens(target: str, config: str) -> None:
    check = containerfile.lineage(STAGES, target)[-1].last("HEALTHCHECK")
    assert check is not None
    asked = re.search(r"http://127\.0\.0\.1:(\d+)/livez", check.text)
    assert asked is not None
    settings = yaml.safe_load((ROOT / "configs" / "compose" / config).read_text(encoding="utf-8"))
    listen = settings["admin"]["listen"] if target == "sidecar" else settings["listen"]
    assert listen.endswith(f":{asked[1]}")


def test_the_context_holds_what_is_copied_and_no_secret() -> None:
    ignore = (ROOT / "configs" / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore[0] == "*"
    kept = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        word
        for stage in STAGES
        for each in stage.instructions
        if each.name == "COPY" and "--from" not in each.text
        for word in each.words[:-1]
    }
    assert {name for name in copied if not any(name == keep or name.startswith(f"{keep}/") for keep in kept)} == set()
    assert all((ROOT / name).exists() for name in copied)


HEALTHY = """
set -eu
cd /var/lib/trunkside
trunkside sidecar --config /tmp/sidecar.yaml 2> /tmp/log &
pid=$!
tries=0
until grep -q '"ready"' /tmp/log; do tries=$((tries + 1)); [ $tries -lt 300 ] || { cat /tmp/log; exit 4; }; sleep 0.1; done
__CHECK__
kill -TERM $pid
wait $pid
echo "stopped with $?"
id -u
"""
SETTINGS = """
sip: {listen: ["udp://127.0.0.1:0"]}
routes: [{name: agent, target: "sip:agent@127.0.0.1:5070"}]
spool: {path: /var/lib/trunkside/spool}
admin: {listen: "127.0.0.1:9090"}
"""


@pytest.mark.peer
@pytest.mark.load
@pytest.mark.skipif((reason := containerfile.why_not()) is not None, reason=str(reason))
def test_the_steps_build_an_image_that_runs_as_nobody_on_a_read_only_root() -> None:
    """Every RUN, COPY, ENV and WORKDIR of the sidecar's stages, and then the entry point, its health check and its end."""
    script = containerfile.Script(ROOT)
    for name in ("build", "runtime", "sidecar"):
        script.stage(next(stage for stage in STAGES if stage.name == name))
    root = "/mnt/sidecar/root"
    script.outside(f"printf '%s' '{SETTINGS}' > {root}/tmp/sidecar.yaml; chmod 644 {root}/tmp/sidecar.yaml; chmod 1777 {root}/tmp")
    # A volume of its own, and everything else read-only, as the pods and the compose file have it. The network too is its own: fixed ports.
    script.outside(f"mount -t tmpfs -o uid=10001,gid=10001 none {root}/var/lib/trunkside; mount -o remount,ro {root}")
    check = containerfile.lineage(STAGES, "sidecar")[-1].last("HEALTHCHECK")
    assert check is not None
    command = containerfile.Instruction("CMD", check.text[check.text.index("CMD ") + 4 :]).words
    asked = " ".join(f"'{word}'" if "'" not in word else f'"{word}"' for word in command) + " && echo healthy"
    env = f"PATH=/opt/trunkside/bin:{sys.base_prefix}/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1"
    body = HEALTHY.replace("__CHECK__", asked)
    script.outside(f"cat > {root}/tmp/try.sh <<'TRY'\n{body}\nTRY")
    script.outside(f"if touch {root}/etc/trunkside/x 2>/dev/null; then echo 'the root is writable'; fi")
    entry = f"chroot --userspec=10001:10001 {root} env -i {env} HOME=/nonexistent /bin/sh /tmp/try.sh"
    script.outside(f"unshare --net /bin/sh -euc 'ip link set lo up; {entry}'")
    script.outside(f"ls {root}/opt/trunkside/bin; head -c 300 {root}/opt/trunkside/share/trunkside/packages.json")
    done = script.carry_out(900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    lines = done.stdout.splitlines()
    assert {"healthy", "stopped with 0", "10001"} <= set(lines), done.stdout[-3000:]
    assert "the root is writable" not in lines
    assert "trunkside" in lines
    assert "pip" not in lines, "the image holds an installer"
    assert '"version"' in done.stdout, "the list of packages is empty"
