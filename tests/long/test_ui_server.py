"""`mtpareto ui` on a real server: its page answers, a study is mirrored through it, and Ctrl-C leaves nothing."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from rich.console import Console

from orchestrator.commands.ui import free_port
from orchestrator.finish.mirroring import MirrorThread
from orchestrator.finish.run_folder import reopen, report_again
from orchestrator.finish.wrap_up import connect
from tests.support.paths import ROOT
from tests.support.recorded_run import Made, write_data, write_run
from tests.support.signals import heed_signals


def wait_until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def test_a_server_shows_a_run_takes_another_and_ends_with_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data, trials = {"dev": write_data(tmp_path / "dev.jsonl")}, [Made(1000, bits=None), Made(500, bits=4)]
    run = write_run(tmp_path / "run", data, trials, tracking_uri=None)
    report_again(run, Console(quiet=True))
    # A search whose server is down goes on, and its mirror too, once the server is there.
    port = free_port(0)
    late = write_run(tmp_path / "late", data, trials, tracking_uri=f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    thread = MirrorThread(lambda: connect(reopen(late)[1]), late)
    with caplog.at_level(logging.WARNING):
        thread.nudge()
        wait_until(lambda: "MLflow can't be written to" in caplog.text)
    command = [sys.executable, "-m", "orchestrator.cli", "ui", str(run), "--port", str(port), "--no-open"]
    ui = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True, preexec_fn=heed_signals,
    )  # fmt: skip
    assert ui.stdout is not None
    assert "starting" in ui.stdout.readline()
    found = re.search(r"(http://127\.0\.0\.1:\d+)/#/experiments/(\d+)/runs", ui.stdout.readline())
    assert found is not None
    with urllib.request.urlopen(found[1]) as answer:
        assert b"MLflow" in answer.read()
    client = MlflowClient(found[1])
    thread.nudge()
    thread.stop(120)
    names = {run.info.run_name for run in client.search_runs([found[2]], "tags.study = 'late'")}
    assert names == {"late", "000 baseline", "001 rtn 4-bit g64"}
    assert {one.data.tags.get("study") for one in client.search_runs([found[2]])} == {"run", "late"}

    through = write_run(tmp_path / "through", data, trials, tracking_uri=found[1], experiment="through")
    weights = through / "artefacts" / "trial-1-rtn-4-bit-g64"
    weights.mkdir(parents=True)
    assert report_again(through, Console(quiet=True)).mirrored
    assert report_again(through, Console(quiet=True)).mirrored
    version = client.get_model_version_by_alias("through", "knee")
    assert version.tags["artefact"] == str(weights)
    assert len(client.search_model_versions("name = 'through'")) == 1

    family = psutil.Process(ui.pid).children(recursive=True)
    assert family
    ui.send_signal(signal.SIGINT)
    said, _ = ui.communicate(timeout=30)
    assert (ui.returncode, said) == (130, "stopped by SIGINT\n")
    psutil.wait_procs(family, timeout=5)
    assert not [one for one in family if one.is_running()]
