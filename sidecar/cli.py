"""The command line. The one module that may start both halves."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
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
control_app = typer.Typer(invoke_without_command=True)
token_app = typer.Typer(no_args_is_help=True)
app.add_typer(control_app, name="control")
control_app.add_typer(token_app, name="token")

ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="YAML file; TRUNKSIDE_… environment variables win over it.", show_default=False)
]
OptionalConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file; TRUNKSIDE_… environment variables win over it.", show_default=False)
]
USAGE = 2


@app.command()
def sidecar(
    config: ConfigFile,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that share the SIP addresses, each with its part of the ports; UDP alone.")
    ] = 1,
    worker: Annotated[str | None, typer.Option(hidden=True)] = None,
    feed: Annotated[int, typer.Option(hidden=True)] = -1,
    sockets: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Run the sidecar: relay calls, measure turns, report to control. Stops on SIGTERM after a drain."""
    from sidecar import config as sidecar_config
    from sidecar import logs
    from sidecar.net.errors import StartError

    logs.configure()
    try:
        settings = sidecar_config.load(config)
        _run(_workers(settings, config, workers) if workers > 1 else _sidecar(settings, config, worker, feed, sockets))
    except (SettingsError, StartError) as error:
        _fail(str(error))


async def _sidecar(settings: Any, path: Path, worker: str | None, feed: int, sockets: str) -> None:
    from sidecar.app import Sidecar
    from sidecar.workers import part_of

    part = None if worker is None else part_of(worker, feed, [int(number) for number in sockets.split(",")])
    await Sidecar(settings, path, part).run()


async def _workers(settings: Any, path: Path, count: int) -> None:
    from sidecar.workers import Workers

    await Workers(settings, path, count).run()


@control_app.callback()
def control(context: typer.Context, config: OptionalConfigFile = None) -> None:
    """Run control: take traces and reports, link them, deliver them, answer questions about calls. Or look after its database."""
    context.obj = config
    if context.invoked_subcommand is not None:
        return
    gc.disable()  # nothing that an import makes is garbage, and looking for it takes a seventh of the time until ready
    from control.tending import run_control
    from sidecar import logs

    gc.freeze()
    gc.enable()
    logs.configure()
    _tend(run_control, config)


@control_app.command("migrate")
def control_migrate(context: typer.Context, config: OptionalConfigFile = None) -> None:
    """Bring the database to this version's schema, and end. Control itself does so at each start."""
    from control.tending import migrate

    _tend(migrate, config or context.obj)


@token_app.callback()
def control_token(context: typer.Context, config: OptionalConfigFile = None) -> None:
    """Make, list and revoke bearer tokens of the API. A running control follows within a second."""
    context.obj = config or (context.parent.obj if context.parent is not None else None)


@token_app.command("create")
def token_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Letters, digits, dots, underscores and hyphens; shown in the log of changes.")],
    scope: Annotated[list[str], typer.Option("--scope", "-s", help="sidecar, sync, read or operate; several times for several.")],
    sidecar: Annotated[
        list[str] | None, typer.Option(help="With scope sidecar: the one that it speaks for, * for any part of its name; several times.")
    ] = None,
    expires_days: Annotated[float | None, typer.Option(help="Days after which it opens nothing any more; without it never.")] = None,
    workspace_id: Annotated[
        int | None, typer.Option(help="With scope sync: the evaluator's workspace for what its holder reports …")
    ] = None,
    agent_id: Annotated[str | None, typer.Option(help="… the agent …")] = None,
    api_key_file: Annotated[Path | None, typer.Option(help="… and a file with the evaluator's API key.")] = None,
    config: OptionalConfigFile = None,
) -> None:
    """Make a token and print it, the only time that it can be seen."""
    from control.tending import Wanted, create_token

    wanted = Wanted(name, tuple(scope), expires_days, workspace_id, agent_id, api_key_file, tuple(sidecar or ()))
    _tend(lambda settings: create_token(settings, wanted), config or context.obj)


@token_app.command("list")
def token_list(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")] = False,
    config: OptionalConfigFile = None,
) -> None:
    """Show all tokens that were ever made, without the tokens themselves."""
    from control.tending import list_tokens

    _tend(lambda settings: list_tokens(settings, json=json), config or context.obj)


@token_app.command("revoke")
def token_revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The token's name.")],
    config: OptionalConfigFile = None,
) -> None:
    """Take a token out of force."""
    from control.tending import revoke_token

    _tend(lambda settings: revoke_token(settings, name), config or context.obj)


def _tend(work: Callable[[Any], Coroutine[Any, Any, None]], config: Path | None) -> None:
    """Run a piece of work on control's settings; what a person has to mend is one line and exit status 2."""
    from control import config as control_config
    from control.errors import StartupError
    from control.tending import UsageError
    from control.tokens import TokenError

    if config is None:
        _fail("Missing option '--config' / '-c': give control's configuration file")
    try:
        _run(work(control_config.load(config)))
    except (SettingsError, StartupError, TokenError, UsageError) as error:
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
    via: Annotated[
        str | None, typer.Option(help="With --deep: the sidecar's SIP address, as in 127.0.0.1:5060; left out: what --admin tells.")
    ] = None,
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
    from control.contract import settings as reading
    from sidecar.doctor import Fault, check_control, check_sidecar, located, render

    try:
        text = file.read_text(encoding="utf-8")
        reading.mapping(str(file), text)
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}")
    except SettingsError as error:
        _fail(str(error))
    try:
        if _is_control_file(file):
            from control import config as control_config

            settings = reading.load(control_config.ControlConfig, file)
            summary = f"control listens on {settings.listen}, reports to {settings.evaluator.base_url}"
            found = _run(check_control(settings.listen, settings.evaluator.base_url, offline=offline))
        else:
            from sidecar import config as sidecar_config

            loaded = sidecar_config.load(file)
            routes = ", ".join(f"{route.name} → {route.target}" for route in loaded.routes)
            summary = f"a sidecar that listens on {', '.join(loaded.sip.listen)}; routes: {routes}"
            found = _run(check_sidecar(loaded, offline=offline))
    except SettingsError as error:
        mend = "correct that line; nothing starts with it"
        summary, found = "it cannot be used", [Fault("error", "settings", why, mend) for why in (str(error), *error.also)]
    found = located(found, text)
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
    from sidecar.net.process import leave_no_core

    leave_no_core()
    app()


if __name__ == "__main__":
    main()
