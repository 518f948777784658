"""The command line. The one module that may start both halves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from control.client.command import app as calls_app
from control.contract.settings import SettingsError

app = typer.Typer(
    name="trunkside",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A SIP B2BUA sidecar for voice agents.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at configuration files.")
app.add_typer(config_app, name="config")
app.add_typer(calls_app, name="calls")

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="YAML file; TRUNKSIDE_… environment variables win over it.", show_default=False)
]
USAGE = 2


@app.command()
def sidecar(config: ConfigFile) -> None:
    """Run the sidecar: relay calls, measure turns, report to control. Stops on SIGTERM after a drain."""
    from sidecar import config as sidecar_config
    from sidecar import logs
    from sidecar.net.errors import StartError

    logs.configure()
    try:
        settings = sidecar_config.load(config)
        _run(_sidecar(settings))
    except (SettingsError, StartError) as error:
        _fail(str(error))


async def _sidecar(settings: Any) -> None:
    from sidecar.app import Sidecar

    await Sidecar(settings).run()


@app.command()
def control(config: ConfigFile) -> None:
    """Run control: take traces and reports, link them, deliver them, answer questions about calls."""
    from control import app as control_app
    from control import config as control_config
    from control.errors import StartupError
    from sidecar import logs

    logs.configure()
    try:
        settings = control_config.load(config)
        _run(control_app.run(settings))
    except (SettingsError, StartupError) as error:
        _fail(str(error))


@app.command()
def demo(
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")] = False,
    no_agent_id: Annotated[bool, typer.Option("--no-agent-id", help="The agent's report lacks sip_call_id: see it repaired.")] = False,
    wrong_credentials: Annotated[
        bool, typer.Option("--wrong-credentials", help="The route's password is wrong: see the call refused.")
    ] = False,
) -> None:
    """One simulated call, end to end, on free loopback ports: stand-in evaluator → sidecar → stand-in agent, reported through control."""
    from sidecar.lab.demo import run_demo

    raise typer.Exit(_run(run_demo(json=json, no_agent_id=no_agent_id, wrong_credentials=wrong_credentials)))


@app.command()
def verify(
    uri: Annotated[str, typer.Argument(metavar="SIP-URI", help="What an evaluator would dial, as in sip:agent@voice.example.")],
    username: Annotated[str | None, typer.Option(help="Answers the edge's digest challenge.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="A file with the password on one line.")] = None,
    timeout: Annotated[float, typer.Option(min=0.5, max=120, help="Seconds to wait for each answer.")] = 10.0,
    ca: Annotated[Path | None, typer.Option(help="PEM file of who vouches for the edge's certificate; without it the system's.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Dial through a running sidecar and say at which hop the id would die.")] = False,
    via: Annotated[str | None, typer.Option(help="With --deep: the sidecar's SIP address, as in 127.0.0.1:5060.")] = None,
    admin: Annotated[str | None, typer.Option(help="With --deep: URL of the sidecar's admin port.")] = None,
    control_url: Annotated[str | None, typer.Option("--control", help="With --deep: URL of control, which knows more.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="With --control: a file with a token of scope read.")] = None,
) -> None:
    """Place a test call to a SIP URI and explain what it meets. Exit status 0: fine, 1: a finding, 2: usage."""
    from sidecar.net.errors import StartError
    from sidecar.verify.command import Options, UsageError, run

    options = Options(uri, username, password_file, timeout, ca, json, deep, via, admin, control_url, token_file)
    try:
        status = _run(run(options))
    except (UsageError, StartError) as error:
        _fail(str(error))
    raise typer.Exit(status)


@config_app.command("check")
def config_check(
    file: Annotated[Path, typer.Argument(help="A sidecar.yaml or control.yaml.")],
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody: no name server, no target, no port of this machine.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")] = False,
) -> None:
    """Check a configuration file and say what it means. Exit status 0: clean or warnings only, 1: errors, 2: usage or unreadable."""
    from control.errors import StartupError
    from sidecar.doctor import Fault, check_control, check_sidecar, readable, render

    if (why := readable(file)) is not None:
        _fail(f"{file}: {why}")
    try:
        if _is_control_file(file):
            from control import config as control_config

            settings = control_config.load(file)
            summary = f"control listens on {settings.listen}, reports to {settings.evaluator.base_url}"
            found = _run(check_control(settings.listen, settings.evaluator.base_url, offline=offline))
        else:
            from sidecar import config as sidecar_config

            loaded = sidecar_config.load(file)
            routes = ", ".join(f"{route.name} → {route.target}" for route in loaded.routes)
            summary = f"a sidecar that listens on {', '.join(loaded.sip.listen)}; routes: {routes}"
            found = _run(check_sidecar(loaded, offline=offline))
    except (SettingsError, StartupError) as error:
        summary, found = "it cannot be used", [Fault("error", "settings", str(error), "correct that line; nothing starts with it")]
    typer.echo(render(str(file), summary, found, json=json))
    raise typer.Exit(1 if any(fault.severity == "error" for fault in found) else 0)


def _is_control_file(file: Path) -> bool:
    """A control file is told by keys that no sidecar has; everything else is checked as a sidecar's, which names what is wrong."""
    import yaml

    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(loaded, dict) and not {"database", "evaluator", "wire_only", "retention", "tokens", "listen"}.isdisjoint(loaded)


def _run(main: Coroutine[Any, Any, Any]) -> Any:
    try:
        import uvloop
    except ImportError:  # not on every platform; asyncio's own loop does the same, slower
        return asyncio.run(main)
    return uvloop.run(main)


def _fail(line: str) -> None:
    print(f"trunkside: {line}", file=sys.stderr)  # noqa: T201 - the one line that a person or a supervisor reads
    raise typer.Exit(USAGE)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
