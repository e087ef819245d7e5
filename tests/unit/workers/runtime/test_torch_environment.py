"""How a process's threads wait: set where nothing else says it, and before torch is there to read it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.benches import cpu as bench_cpu
from orchestrator.benches.cpu import ARMS, figures
from orchestrator.benches.figures import CPU
from orchestrator.benches.table import explain_figure
from orchestrator.cli import main
from workers.runtime.ray_process import _done, _packed
from workers.runtime.torch_environment import WAIT_POLICY, WAIT_VARIABLES, prepare_torch, waiting

# What each process that computes does first, and whether torch was there before it.
FIRST_LINES = {
    "mtpareto": "from orchestrator import environment; environment.prepare('auto')",
    "main.py": "import orchestrator.commands.single",
    "a trial": "from workers.evaluation.trial_actor import CompressionTrial",
    "a process of a trial's": "import workers.evaluation.remote_evaluation, workers.runtime.ray_process",
    "COMET": "from workers.comet.actor import CometScorer",
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in WAIT_VARIABLES:
        # Set first, so that what a test sets goes with it.
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


def test_threads_sleep_where_they_wait() -> None:
    prepare_torch()
    assert waiting() == {WAIT_POLICY: "PASSIVE"}


@pytest.mark.parametrize("variable", WAIT_VARIABLES)
def test_the_users_word_stays(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "infinite")
    prepare_torch()
    assert waiting() == {variable: "infinite"}


@pytest.mark.parametrize("process", FIRST_LINES)
def test_no_process_has_torch_before_it_says_how_to_wait(process: str) -> None:
    code = f"import sys; {FIRST_LINES[process]}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_work_for_another_process_is_opened_once_the_policy_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "looks_at_import.py").write_text(
        f"import os\nSEEN = os.environ.get('{WAIT_POLICY}')\ndef seen(): return SEEN\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import looks_at_import; "
        "from workers.runtime.ray_process import _packed; sys.stdout.buffer.write(_packed(looks_at_import.seen, ()))"
    )
    packed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    monkeypatch.syspath_prepend(tmp_path)
    answer, _ = _done(packed)
    assert answer == "PASSIVE"
    assert _done(_packed(len, ("four",)))[0] == 4


def test_the_bench_compares_the_policy_with_none_and_leaves_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMP_BLOCKTIME", "0")
    seen = []
    for set_policy in ARMS.values():
        with bench_cpu._policy(set_policy):
            seen.append(waiting())
    assert seen == [{WAIT_POLICY: "PASSIVE"}, {}]
    assert waiting() == {"KMP_BLOCKTIME": "0"}


def test_the_benchs_figures_are_known_and_hold_the_mark() -> None:
    values = figures({64: [1.0, 3.0, 2.0], 128: [2.0, 2.0, 2.0]})
    assert values["worst_over_best_b64"] == 3.0
    assert values["median_s_b64"] == 2.0
    assert values["worst_over_best_b128"] == 1.0
    assert all(explain_figure(f"{prefix}{name}", CPU)[0] for prefix in ARMS for name in values)
    assert explain_figure("worst_over_best_b64", CPU)[1] == "<= 2"
    assert explain_figure("spinning_worst_over_best_b64", CPU)[1] == ""


def test_the_bench_measures_this_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert main(["bench", "cpu", "--json", "cpu.json"]) == 2
    assert "RAY_ADDRESS is 10.0.0.1:6379" in capsys.readouterr().err
    monkeypatch.delenv("RAY_ADDRESS")
    assert main(["bench", "cpu", "--json", "cpu.json", "--data", "data/none.jsonl"]) == 2
    assert not Path("cpu.json").exists()
