"""Kamailio as the proxy in front of the sidecar and as the edge behind it: record-routing, digest-challenging, over UDP, TCP and TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.product import until

REALM, USER, PASSWORD = "edge.test", "trunkside", "s3cret"

_CONFIG = """#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=2
tcp_children=2
auto_aliases=no
mpath="{modules}"
{listen}
enable_tls={tls}
tcp_connection_lifetime=300
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "auth.so"
{tls_module}
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{
            if (src_ip == {sidecar} && is_method("BYE") && $rd != "{caller}" && {challenges}) route(CHALLENGE);
            t_relay();
            exit;
        }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        sl_send_reply("404", "Not here");
        exit;
    }}
    t_check_trans();
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    if (src_ip == {sidecar}) {{
        if ({challenges}) route(CHALLENGE);
        remove_hf("Route");
        record_route();
        {onward}
    }} else {{
        record_route();
        $du = "{front}";
    }}
    if (!t_relay()) sl_reply_error();
    exit;
}}
route[CHALLENGE] {{
    if (!pv_proxy_authenticate("{realm}", "{password}", "0")) {{
        proxy_challenge("{realm}", "{challenge_flags}");
        exit;
    }}
    consume_credentials();
}}
"""

_TLS = """loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{chain}")
modparam("tls", "private_key", "{key}")
modparam("tls", "ca_list", "{ca}")
modparam("tls", "verify_certificate", 1)
modparam("tls", "require_certificate", 1)
"""


@dataclass(frozen=True)
class Certificates:
    """PEM files."""

    chain: Path
    key: Path
    ca: Path


@contextmanager
def kamailio(
    folder: Path,
    host: str,
    ports: dict[str, int],
    *,
    sidecar: str,
    caller: str = "",
    front: str = "",
    onward: str = "",
    challenges: bool = False,
    certificates: Certificates | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A running Kamailio that listens on `host`, on one port for each transport.

    What comes from the address `sidecar` is challenged if wanted (but for a BYE to the host `caller`) and goes on to the URI `onward`, or
    where its Request-URI says; what comes from anybody else goes on to the URI `front`.
    """
    binary = shutil.which("kamailio") or "/usr/sbin/kamailio"
    assert Path(binary).exists(), "Kamailio is not installed: Debian has it as kamailio, with kamailio-tls-modules"
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "modules": next(Path("/usr/lib").glob("*/kamailio/modules")),
        "listen": "\n".join(f"listen={transport}:{host}:{port}" for transport, port in ports.items()),
        "tls": "yes" if certificates else "no",
        "tls_module": _TLS.format(chain=certificates.chain, key=certificates.key, ca=certificates.ca) if certificates else "",
        "sidecar": sidecar,
        "caller": caller,
        "challenges": "1 == 1" if challenges else "1 == 0",
        "challenge_flags": "1",
        "onward": f'$du = "{onward}";' if onward else "",
        "front": front,
        "realm": REALM,
        "password": PASSWORD,
    }
    config = folder / "kamailio.cfg"
    config.write_text(_CONFIG.format(**values))
    with (folder / "kamailio.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "-f", str(config), "-DD", "-E", "-m", "32", "-M", "4", "-Y", str(folder), "-P", str(folder / "pid")],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until("Kamailio listens", lambda: _listens(process, folder, host, ports))
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _listens(process: subprocess.Popen[bytes], folder: Path, host: str, ports: dict[str, int]) -> bool:
    assert process.poll() is None, (folder / "kamailio.log").read_text(errors="replace")[-3000:]
    stream = next(port for transport, port in ports.items() if transport != "udp")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, stream)) == 0
