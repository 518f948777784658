"""Versioned models of all that crosses between sidecar, control and their clients.

The sidecar imports this package and nothing else of control; control imports nothing of the sidecar.
"""

from __future__ import annotations

VERSION = 1
"""Version of the facts that a sidecar posts. A control refuses a version it does not know, with both numbers in the answer."""
