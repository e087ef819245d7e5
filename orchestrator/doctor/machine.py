"""What of the machine a search needs: Python, packages, Ray and its cluster, MLflow's store."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mlflow_tracking.store import is_sqlite, sqlite_file
from orchestrator.cluster.address import asked_for, reachable
from orchestrator.doctor.finding import Finding, found
from orchestrator.number_format import spell_bytes
from orchestrator.study.preflight import nearest_folder
from workers.evaluation.preflight import DISTRIBUTIONS, DRIVER, PAGES, WORKER, missing_packages

PYTHONS = ((3, 11), (3, 12))
SERVER_SECONDS = 5.0


def python_finding(running: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Whether this Python is one that the project runs on."""
    said = f"{'.'.join(map(str, sys.version_info[:3]))} in {sys.prefix}"
    if running in PYTHONS:
        return Finding("ok", "Python", said)
    return Finding("wrong", "Python", f"{running[0]}.{running[1]}; it must be 3.11 or 3.12", "python3.11 -m venv .venv")


def packages_finding(needed: Sequence[str] = (*WORKER, *DRIVER, *PAGES)) -> Finding:
    """Whether all packages are installed; imports nothing."""
    missing = missing_packages(needed)
    if not missing:
        return Finding("ok", "packages", f"all {len(dict.fromkeys(needed))} are installed")
    names = " ".join(dict.fromkeys(f"'{DISTRIBUTIONS.get(name, name)}'" for name in missing))
    said = f"not installed: {', '.join(missing)}"
    return Finding("wrong", "packages", said, f"{sys.executable} -m pip install {names}")


def ray_finding(address: str | None) -> Finding:
    """Ray's version, and whether the cluster that is asked for answers. address: as `--address`."""
    try:
        here = f"{version('ray')}"
    except PackageNotFoundError:
        return Finding("wrong", "Ray", "is not installed", f"{sys.executable} -m pip install 'ray[tune]'")
    asked = asked_for(address, os.environ)
    if asked is None:
        return Finding("ok", "Ray", f"{here}; a search starts one of its own")
    return found("Ray", lambda: f"{here}; a cluster answers at {reachable(*asked)} ({asked[1]} is {asked[0]})")


def mlflow_finding(uri: str) -> Finding:
    """Whether MLflow's store can be written to, or its server answers. Without it a search goes on, and what is due
    stays due."""
    if not is_sqlite(uri):
        return _server_finding(uri)
    file = sqlite_file(uri)
    if not file.exists():
        folder = nearest_folder(file.absolute().parent)
        if not os.access(folder, os.W_OK | os.X_OK):
            return Finding("warning", "MLflow", f"{folder} can't be written to", "name another store: --tracking-uri")
        return Finding("ok", "MLflow", f"{uri} will be made")
    try:
        with sqlite3.connect(f"file:{file.absolute()}?mode=ro", uri=True, timeout=SERVER_SECONDS) as store:
            store.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        return Finding("warning", "MLflow", f"{file} is no store of MLflow's: {error}", f"move {file} away")
    if not os.access(file, os.W_OK):
        return Finding("warning", "MLflow", f"{file} can't be written to", f"chmod u+w {file}")
    return Finding("ok", "MLflow", uri)


def _server_finding(uri: str) -> Finding:
    if not uri.startswith(("http://", "https://")):
        return Finding("ok", "MLflow", f"{uri}, which is not looked at")
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_SECONDS) as answer:
            said = f"{uri} answers ({answer.status})"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding("warning", "MLflow", f"{uri} does not answer: {reason}", "start the server, or --tracking-uri")
    return Finding("ok", "MLflow", said)


def disk_finding(folder: Path) -> Finding:
    """What is free where a run would be, without a study to compare it with."""
    free = shutil.disk_usage(nearest_folder(folder.absolute())).free
    return Finding("ok", "disk", f"{spell_bytes(free)} free in {folder.absolute()}")
