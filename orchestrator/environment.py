"""The process's environment for Ray, MLflow and torch, set before they are imported: they read it once."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from orchestrator.cluster.address import asked_for
from workers.runtime.torch_environment import prepare_torch

DEFAULTS = {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # A tracking server that is down is given up after seconds, not MLflow's own four minutes: what is due stays due.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # MLflow would print the address of each run that it closes; the last lines have the one that helps.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Trials must not be moved into their log folders: relative paths would change their meaning.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A local Ray's workers are no nicer than other programs: at Ray's 15 a neighbour on each core leaves them 3 %.
    "RAY_worker_niceness": "0",
    # No worker for each CPU at the start: trials come with an environment, for which Ray starts another process anyway.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    # Nobody asks the node's agent for metrics.
    "RAY_enable_metrics_collection": "0",
    # Seconds until an actor that ignores a stop is killed; Tune's own 600 would hold a GPU for as long.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "60",
    "RAY_AIR_NEW_OUTPUT": "0",
    # No TensorBoard, CSV and JSON files a trial: the ledger and MLflow hold what they would.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}


def prepare(address: str | None) -> None:
    """Set what is not set yet. A Ray that will be started here (no address) listens on the loopback alone, and asks for
    a token: yours, else one made for this process; a cluster that is already there has its own rule."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    prepare_torch()
    if asked_for(address, os.environ) is not None:
        return
    # Ray's word for a machine that belongs to no cluster, as any Mac: all of it then listens on 127.0.0.1.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and not _has_token():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _has_token() -> bool:
    """Whether Ray finds a token by itself (https://docs.ray.io/en/latest/ray-security/token-auth.html)."""
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(named) or (Path.home() / ".ray" / "auth_token").is_file()
