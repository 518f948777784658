"""The sidecar's configuration: a YAML file, then `TRUNKSIDE_…` environment variables (nested with `__`), secrets also from `*_file` keys.

Everything is checked before a socket is opened. An unknown key is fatal: what is silently ignored is a setting that someone believes in.
"""

from sidecar.config.routes import Match as Match
from sidecar.config.routes import Route as Route
from sidecar.config.signalling import Sip as Sip
from sidecar.config.values import parse_listen as parse_listen
from sidecar.config.values import revealed as revealed
from sidecar.config.whole import SidecarConfig as SidecarConfig
from sidecar.config.whole import load as load
from sidecar.config.whole import with_routes as with_routes
