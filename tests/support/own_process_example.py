"""Work for processes of their own on a Ray cluster; run as a program, it writes what came of each to the file
that it is given."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.environment import prepare
from workers.runtime.callbacks import ProgressCallback
from workers.runtime.ray_process import Resources, in_own_process
from workers.runtime.training_progress import Progress
from workers.runtime.warned import Warnings, heard_by

SHARE = Resources(1.0, 0.0)


def counted(to: int, seconds: float, tell: ProgressCallback) -> int:
    for done in range(to):
        tell(_progress(done + 1, to))
        time.sleep(seconds)
    return os.getpid()


def failing(tell: ProgressCallback) -> None:
    tell(_progress(1, 2))
    raise ValueError("it did not go well")


def warned(number: int) -> int:
    logging.getLogger("workers.example").warning("there were %d", number)
    return number


def lost() -> None:
    os._exit(1)


def _progress(done: int, of: int) -> Progress:
    return Progress("distill", done, of, 1.0, 0.0, None, None, "counting")


def outcomes() -> dict[str, Any]:
    heard: list[tuple[int, float]] = []
    there = in_own_process(SHARE, counted, 4, 0.8, report=lambda one: heard.append((one.tokens, time.monotonic())))
    found: dict[str, Any] = {"elsewhere": there != os.getpid(), "heard": [tokens for tokens, _ in heard]}
    found["heard_over"] = heard[-1][1] - heard[0][1]
    heard.clear()
    try:
        in_own_process(SHARE, failing, report=lambda one: heard.append((one.tokens, 0.0)))
    except ValueError as error:
        found["raised"] = [str(error), [tokens for tokens, _ in heard]]
    warnings = Warnings()
    with heard_by(warnings):
        found["warned"] = [in_own_process(SHARE, warned, 3), *warnings.texts]
    try:
        in_own_process(SHARE, lost)
    except ConnectionError as error:
        found["lost"] = str(error)
    return found


if __name__ == "__main__":
    prepare(None)
    import ray

    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    Path(sys.argv[1]).write_text(json.dumps(outcomes()), encoding="utf-8")
    ray.shutdown()
