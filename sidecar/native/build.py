"""The build hook: compiles `relay.c` beside itself when the distribution is built or installed.

Without a C compiler the installation goes on, and the sidecar forwards media in Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC", "-pthread")


class NativeRelay(BuildHookInterface[Any]):
    """Adds `sidecar/native/librelay.so` to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, or say why not."""
        if self.target_name != "wheel" or not sys.platform.startswith("linux"):
            return
        folder = Path(self.root) / "sidecar" / "native"
        library, compiler = folder / "librelay.so", shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            self.app.display_warning("no C compiler: media will be forwarded in Python")
            return
        fresh = library.with_suffix(".new")
        done = subprocess.run([compiler, *FLAGS, "-o", str(fresh), str(folder / "relay.c")], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            self.app.display_warning(f"relay.c does not compile, media will be forwarded in Python: {done.stderr[-2000:]}")
            return
        fresh.replace(library)
        build_data["artifacts"].append("sidecar/native/librelay.so")
        build_data["pure_python"] = False
        # Any interpreter can load it, so the system alone is what the wheel is bound to.
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
