"""How the tests' processes wait for their threads, which is set before torch is imported, how they collect garbage,
and which files begin first."""

from __future__ import annotations

import gc

import pytest

from workers.runtime.torch_environment import set_waiting

set_waiting()

# Files of tens of seconds, the longest first: at the end of a run none of them is left to one process alone. Files of
# seconds may follow in any order.
FIRST = (
    "long/test_bench_distillation.py",
    "long/test_racing_replay.py",
    "long/test_wheel.py",
    "unit/workers/compression/test_contract.py",
    "unit/workers/training/test_recover.py",
    "unit/workers/training/loop/test_compiling.py",
    "unit/workers/training/test_distill.py",
    "long/test_ui_browser.py",
    "unit/workers/loading/test_loading.py",
    "unit/workers/decoder/test_decoder.py",
    "unit/orchestrator/stopping/test_stopping.py",
    "unit/workers/evaluation/test_training_prefixes.py",
    "unit/workers/training/test_gate.py",
    "unit/workers/packed/test_packed_load.py",
    "unit/mlflow_tracking/test_mlflow_store.py",
    "unit/workers/reading/test_training_data.py",
    "unit/workers/training/loop/test_training_loop.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of FIRST first, each whole."""
    place = {f"tests/{file}": number for number, file in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(FIRST)))


@pytest.fixture(scope="module", autouse=True)
def little_to_collect() -> None:
    """Take what lives before a file's tests out of the garbage collector's sight.

    The libraries' modules are a million objects: a second for each time that a training or an evaluation collects
    garbage.
    """
    gc.collect()
    gc.freeze()
