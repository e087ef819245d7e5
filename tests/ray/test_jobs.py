"""A search submitted with `ray job submit` to a cluster started with `ray start`, and the cluster file's schema."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

from tests.ray.conftest import ROOT, environment, free_port, trials

RAY = Path(sys.executable).with_name("ray")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A cluster of one node on the loopback, with a token, in a session folder of its own."""
    port, dashboard = free_port(), free_port()
    env = environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    start = subprocess.Popen(
        [
            str(RAY), "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}",
            f"--dashboard-port={dashboard}", "--include-dashboard=true", "--num-cpus=2", "--disable-usage-stats",
            # Jobs go through the node's agent; another Ray of this machine may have its usual port.
            f"--dashboard-agent-listen-port={free_port()}",
        ],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        yield env | {"RAY_JOB_ADDRESS": f"http://127.0.0.1:{dashboard}"}
    finally:
        os.killpg(start.pid, 15)
        try:
            start.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(start.pid, 9)


def test_a_search_runs_as_a_submitted_job(cluster: dict[str, str], runs: Path, small_study: list[str]) -> None:
    folder = runs / "job"
    address = cluster.pop("RAY_JOB_ADDRESS")
    wait_for(address, cluster)
    job = [
        sys.executable, "-m", "orchestrator.cli", "search", *small_study,
        "--space", "depth", "--trials", "2", "--out", str(folder),
    ]  # fmt: skip
    settings = json.dumps({"env_vars": {"PYTHONPATH": str(ROOT)}})
    done = subprocess.run(
        [str(RAY), "job", "submit", "--address", address, "--runtime-env-json", settings, "--", *job],
        capture_output=True, text=True, timeout=300, env=cluster,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert [line["outcome"]["kind"] for line in trials(folder)] == ["measurement"] * 2
    assert (folder / "report.html").is_file()


def wait_for(address: str, env: dict[str, str]) -> None:
    """Until the cluster's job server answers."""
    for _ in range(60):
        probe = [str(RAY), "job", "list", "--address", address]
        if subprocess.run(probe, capture_output=True, env=env, timeout=60).returncode == 0:
            return
    raise AssertionError(f"no job server answers at {address}")


def test_the_cluster_file_fits_rays_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    cluster_file = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(cluster_file, schema)
    assert cluster_file["head_node_type"] in cluster_file["available_node_types"]
    for command in (
        "setup_commands",
        "head_start_ray_commands",
        "worker_start_ray_commands",
        "file_mounts",
        "provider",
    ):
        assert cluster_file[command], command
