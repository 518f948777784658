"""The command line. The one module that may start both halves."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

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


@config_app.command("check")
def config_check(file: Annotated[Path, typer.Argument(help="A sidecar.yaml or control.yaml.")]) -> None:
    """Check a configuration file and say what it means."""
    from control import config as control_config
    from control.errors import StartupError
    from sidecar import config as sidecar_config

    try:
        if _is_control_file(file):
            settings = control_config.load(file)
            typer.echo(
                f"{file}: a control configuration without faults; listens on {settings.listen}, reports to {settings.evaluator.base_url}"
            )
        else:
            loaded = sidecar_config.load(file)
            routes = ", ".join(f"{route.name} → {route.target}" for route in loaded.routes)
            typer.echo(f"{file}: a sidecar configuration without faults; listens on {', '.join(loaded.sip.listen)}; routes: {routes}")
    except (SettingsError, StartupError) as error:
        _fail(str(error))


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
