"""The driver runs where there is no GPU: it loads no torch, and its help answers at once."""

import resource
import subprocess
import sys

import pytest

DRIVER_MODULES = (
    "orchestrator.search.driver",
    "orchestrator.commands.single",
    "orchestrator.report.write_report",
    "orchestrator.commands.score",
    "orchestrator.commands.table",
    "orchestrator.commands.listing",
    "orchestrator.doctor.study_checks",
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
def test_help_takes_less_than_a_second_of_a_cpu(arguments: list[str]) -> None:
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1.0
