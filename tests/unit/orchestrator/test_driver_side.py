"""The driver runs where there is no GPU: it loads no torch, and its help answers at once."""

import subprocess
import sys
import time

import pytest

DRIVER_MODULES = (
    "orchestrator.search.driver",
    "orchestrator.commands.single",
    "orchestrator.report.write_report",
    "orchestrator.commands.score",
    "mlflow_tracking.mirror",
    "search_spaces.spaces.registry",
    "workers.evaluation.trial_actor",
    "workers.reading",
)


def test_driver_modules_load_no_torch() -> None:
    code = (
        f"import sys, importlib; [importlib.import_module(m) for m in {DRIVER_MODULES}]; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("arguments", [["-m", "orchestrator.cli", "--help"], ["main.py", "--help"]])
def test_help_answers_within_a_second(arguments: list[str]) -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0
