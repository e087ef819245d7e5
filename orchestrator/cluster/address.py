"""Which Ray cluster is meant, and whether anything answers there: seconds, where Ray itself tries for minutes."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from search_spaces.errors import StudyError

PROBE_SECONDS = 3.0
# What a client of HTTP/2 begins with (RFC 9113, 3.4), and the type of the frame that a server begins with (6.5).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
SETTINGS = 4
WAYS_OUT = "name a cluster as HOST:PORT (6379 is the usual port), or say --address local for a Ray of this search's own"


def asked_for(address: str | None, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The cluster that is asked for and who asks, `--address` or RAY_ADDRESS; None for a Ray that is started here."""
    named, by = (address, "--address") if address else (environ.get("RAY_ADDRESS"), "RAY_ADDRESS")
    return None if not named or named == "local" else (named, by)


def reachable(named: str, by: str) -> str:
    """The cluster's HOST:PORT, once something answers there; raises StudyError otherwise, within seconds."""
    if named.startswith(("http://", "https://")):
        raise StudyError(
            f"{by} is {named}, the address of a cluster's job server; a search is submitted there with "
            f"`ray job submit --address {named} -- mtpareto search …`. To run it from here, {WAYS_OUT}"
        )
    if "://" in named:
        raise StudyError(
            f"{by} is {named}; a search does not run through Ray Client: its ledger lies on the driver's node. Run it "
            f"on a node of the cluster with --address auto, or submit it with `ray job submit`; else {WAYS_OUT}"
        )
    target = _found_here(by) if named == "auto" else named
    host, port = _host_and_port(target, by)
    if trouble := probe(host, port):
        raise StudyError(f"no Ray cluster answers at {target} ({by} is {named}): {trouble}. Start one, or {WAYS_OUT}")
    return target


def probe(host: str, port: int, seconds: float = PROBE_SECONDS) -> str | None:
    """What is wrong with the port, None where a server of Ray's kind (HTTP/2) answers."""
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return None
            connection.sendall(PREFACE)
            answer = connection.recv(9)
    except OSError as error:
        return error.strerror or str(error)
    return None if len(answer) > 3 and answer[3] == SETTINGS else "what listens there is not a Ray head"


def _host_and_port(target: str, by: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise StudyError(f"{by} is {target!r}, and must end in a port, such as head:6379; {WAYS_OUT}")
    return host.strip("[]"), int(port)


def _found_here(by: str) -> str:
    """The cluster that runs on this machine, as `auto` means it."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address("auto", None)
    except ConnectionError as error:
        raise StudyError(f"{by} is auto, and no Ray runs on this machine; start one, or {WAYS_OUT}") from error
    if found is None or found == "auto":
        raise StudyError(f"{by} is auto, and no Ray runs on this machine; start one, or {WAYS_OUT}")
    return str(found)
