"""Which configuration is in force: the file's, with what control has sent in its place.

A change is checked whole, and taken or refused whole. Both ways in, a signal to read the file again and a snapshot of control, end in the
same function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import ValidationError

from control.contract.fleet import InForce, RefusedSnapshot, SnapshotSent
from control.contract.routing import Snapshot
from control.contract.settings import SettingsError, explain, place_of
from sidecar.config import SidecarConfig, load, with_routes
from sidecar.fleet.keep import Keep, KeepError
from sidecar.net.errors import StartError

log = structlog.get_logger()

CHANGEABLE = frozenset({"routes", "presets", "callers", "evaluators", "limits", "session_timer", "drain", "fleet"})
"""Sections that a running sidecar can go by anew. The others are sockets, ports and paths that are in use."""
Apply = Callable[[SidecarConfig], None]


class Configuration:
    """The file, the snapshot, and what follows from both."""

    def __init__(self, file: SidecarConfig, path: Path | None, part: Callable[[SidecarConfig], SidecarConfig] = lambda file: file) -> None:
        """`path`: where `file` was read; None: it cannot be read again. `part`: what of a file is this sidecar's."""
        self._part = part
        self.in_force = file
        self.apply: Apply = lambda _config: None
        """What a change is told to, once it was checked. It must not fail."""
        self.prepare: Callable[[], None] = lambda: None
        """Called before a file that was read again comes into force. StartError: what it stands on cannot be used."""
        self._file = file
        self._path = path
        self._snapshot: Snapshot | None = None
        self._refused: RefusedSnapshot | None = None
        self._keep = Keep(file.spool.path, file.fleet.key_file)
        self._turn = asyncio.Lock()
        self._file_error: str | None = None

    def told(self) -> InForce:
        """For control."""
        if self._snapshot is None:
            return InForce(refused=self._refused)
        source = "control" if self._snapshot.routes else "file"
        return InForce(source=source, id=self._snapshot.id, version=self._snapshot.version, refused=self._refused)

    def describe(self) -> dict[str, object]:
        """For the admin port."""
        return {
            **self.told().model_dump(exclude={"id"}),
            "routes": [route.name for route in self.in_force.routes],
            "file": str(self._path) if self._path is not None else None,
            "file_error": self._file_error,
        }

    def verify_hosts(self) -> list[str]:
        """Hosts that may be dialled for a verification: those of the routes, the file's list and control's, each once."""
        routes = [host for route in self.in_force.routes for host in (route.target_host, *route.allow)]
        policy = self._snapshot.policies.verify.hosts if self._snapshot is not None else []
        return list(dict.fromkeys([*routes, *self._file.fleet.verify, *policy]))

    async def start(self) -> SidecarConfig:
        """Take the kept snapshot, if there is one. One that does not fit any more is told and left: then the file alone is in force."""
        if not self._file.fleet.follows_control:
            return self.in_force
        try:
            kept = await asyncio.to_thread(self._keep.load)
            if kept is not None:
                self.in_force, self._snapshot = with_routes(self._file, kept), kept
                log.info("snapshot taken from disk", version=kept.version, source=self.told().source)
        except (KeepError, SettingsError) as error:
            log.error("kept snapshot not used", detail=str(error), consequence="the file's routes are in force until control sends its own")
        return self.in_force

    async def take(self, sent: SnapshotSent) -> str | None:
        """A snapshot of control. Returns why it was refused, None when it is in force."""
        async with self._turn:
            reason = await self._taken(sent)
            self._refused = RefusedSnapshot(id=sent.id, version=sent.version, reason=reason) if reason is not None else None
        if reason is None:
            log.info("snapshot applied", version=sent.version, routes=[route.name for route in self.in_force.routes])
        else:
            log.error("snapshot refused", version=sent.version, detail=reason, consequence="the configuration before it stays in force")
        return reason

    async def _taken(self, sent: SnapshotSent) -> str | None:
        if not self._file.fleet.follows_control:
            return "this sidecar goes by its file alone (fleet.routes: file)"
        try:
            snapshot = Snapshot.model_validate(sent.content)
        except ValidationError as error:
            return explain(f"snapshot {sent.version}", None, error)
        try:
            changed = with_routes(self._file, snapshot)
            # On disk before it is in force: what a restart brings back is never older than what was acknowledged.
            await asyncio.to_thread(self._keep.save, snapshot)
        except (SettingsError, KeepError) as error:
            return str(error)
        self._snapshot = snapshot
        self._put(changed)
        return None

    async def reload(self) -> None:
        """Read the file again."""
        async with self._turn:
            try:
                file = await asyncio.to_thread(self._read)
                changed = file if self._snapshot is None or not file.fleet.follows_control else with_routes(file, self._snapshot)
                self.prepare()
            except (SettingsError, StartError) as error:
                self._file_error = str(error)
                log.error("configuration refused", detail=str(error), consequence="the one before stays in force")
                return
            self._file, self._file_error = file, None
            if not file.fleet.follows_control:
                self._snapshot = None
            self._put(changed)
        log.info("configuration reloaded", routes=[route.name for route in self.in_force.routes], source=self.told().source)

    def _read(self) -> SidecarConfig:
        """The file as it is now. Raises SettingsError, also for a change that only a restart can bring about."""
        if self._path is None:
            raise SettingsError("there is no file to read again")
        file = self._part(load(self._path))
        for name in SidecarConfig.model_fields:
            if name not in CHANGEABLE and getattr(file, name) != getattr(self._file, name):
                raise SettingsError(f"{place_of(self._path, [name])}: {name} cannot change while the sidecar runs: restart it for that")
        if file.fleet.enabled != self._file.fleet.enabled or file.fleet.key_file != self._file.fleet.key_file:
            where = place_of(self._path, ["fleet"])
            raise SettingsError(f"{where}: fleet.enabled and fleet.key_file cannot change while the sidecar runs: restart it for that")
        return file

    def _put(self, changed: SidecarConfig) -> None:
        """The one place where a configuration comes into force."""
        self.in_force = changed
        self.apply(changed)
