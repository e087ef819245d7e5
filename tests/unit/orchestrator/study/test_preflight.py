"""What a search looks for before it starts: all that is missing is told at once, and nothing is written before."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.study import preflight as driver
from orchestrator.study.preflight import refuse_missing_packages, refuse_small_disk, worker_packages
from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError
from search_spaces.methods.quantizers import BitsAndBytes
from search_spaces.spaces.registry import SPACES
from tests.support.examples import BASE, dataset, llama_table, segment
from tests.support.paths import ROOT
from workers.evaluation import preflight
from workers.evaluation.preflight import lacking, missing_packages, packages_for
from workers.failures.table import MACHINE_EXIT, MachineError
from workers.plan.evaluation_plan import EvaluationPlan
from workers.translation.decoding import Decoding

ALL = packages_for(["bitsandbytes", "rtn"], ["de"], ["chrf", "bleu"], sharded=False)


class Absent:
    """A finder of packages that does not find these."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __call__(self, name: str) -> object | None:
        return None if name in self._names else object()


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(preflight, "find_spec", Absent(*names))
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)


def plan(store: Path) -> EvaluationPlan:
    return EvaluationPlan({"dev": dataset([segment()])}, None, ("chrf",), Decoding(), store)


def test_what_a_study_imports_follows_from_its_steps_languages_and_metrics() -> None:
    assert "bitsandbytes" in ALL and "peft" not in ALL and "MeCab" not in ALL and "deepspeed" not in ALL
    assert {"MeCab", "mecab_ko"} <= set(packages_for([], ["ja", "ko"], ["bleu"], sharded=False))
    assert "MeCab" not in packages_for([], ["ja"], ["chrf"], sharded=False)
    assert {"peft", "deepspeed"} <= set(packages_for(["recover"], ["de"], [], sharded=True))
    assert missing_packages(ALL) == []
    spec = StudySpec(out="o", data="d", space="depth", anchors=((BitsAndBytes(format="nf4"),),))
    assert "bitsandbytes" in worker_packages(spec, {"dev": dataset([segment()])}, ("chrf",), trains=False)


@pytest.mark.parametrize("space", sorted(set(SPACES) - {"student"}))
def test_the_spaces_that_need_a_package_of_their_own_are_known(space: str) -> None:
    proposer, methods = Proposer(BASE, llama_table(), SPACES[space], trials=15, seed=0), set()
    while isinstance(proposal := proposer.propose(), Proposal):
        methods |= {step.name for step in proposal.candidate.steps}
        proposer.tell(proposal.number, None if proposal.number else _found(proposal))
    assert methods & set(preflight.OF_METHODS) <= set(driver.OWN_PACKAGES.get(space, ()))


def _found(proposal: Proposal) -> Any:
    from orchestrator.results.findings import TrialFinding
    from orchestrator.statistics.frontier import Objectives

    return TrialFinding(Objectives(50.0, proposal.predicted_bytes))


def test_every_missing_package_is_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "plotly", "compressed_tensors", "bitsandbytes")
    with pytest.raises(MachineError) as caught:
        refuse_missing_packages(ALL, address=None)
    said = str(caught.value)
    assert "packages are not installed: plotly, compressed_tensors, bitsandbytes" in said
    assert "pip install plotly compressed-tensors bitsandbytes" in said
    # A cluster's workers look for theirs themselves.
    with pytest.raises(MachineError) as caught:
        refuse_missing_packages(ALL, address="auto")
    assert "bitsandbytes" not in str(caught.value)


def test_a_search_without_a_package_ends_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    without(monkeypatch, "plotly")
    out = tmp_path / "run"
    data = ROOT / "data" / "subset.jsonl"
    assert main(["search", "--data", str(data), "--out", str(out)]) == MACHINE_EXIT
    said = capsys.readouterr().err
    assert said.startswith("error: what the study needs is missing") and "pip install plotly" in said
    assert not out.exists()


def test_a_worker_that_has_everything_lacks_nothing(tmp_path: Path) -> None:
    assert lacking(plan(tmp_path / "store"), ALL, []) is None
    assert list((tmp_path / "store").iterdir()) == []


def broken(name: str, package: str | None = None) -> Any:
    if name == "bitsandbytes":
        raise ImportError("libcudart.so.12: cannot open shared object file: No such file or directory")
    return importlib.import_module(name, package)


def test_all_that_a_worker_lacks_is_one_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Importing:
        """An importer whose bitsandbytes lacks a library."""

        import_module = staticmethod(broken)

    without(monkeypatch, "peft", "accelerate")
    monkeypatch.setattr(preflight, "importlib", Importing)
    (tmp_path / "file").write_text("")
    fault = lacking(plan(tmp_path / "file" / "store"), [*ALL, "peft"], [])
    assert fault is not None and not fault.room and fault.stage == "preflight"
    for part in ("accelerate, peft", "libcudart.so.12", "can't be written to"):
        assert part in fault.message
    assert fault.mend == "install them on every node: pip install accelerate peft"


@pytest.mark.parametrize("gpus", [[0], [0, 1]])
def test_a_worker_that_was_given_a_gpu_and_sees_none_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: Sequence[int]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fault = lacking(plan(tmp_path), ["torch"], gpus)
    assert fault is not None and "this worker was given GPU 0" in fault.message and "sees none" in fault.message


def test_a_store_on_a_full_disk_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(store: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(preflight, "_write", write)
    fault = lacking(plan(tmp_path), ["torch"], [])
    assert fault is not None and fault.room and fault.what == "the disk is full"


def test_a_disk_without_room_for_the_model_and_its_first_artefact_is_refused(tmp_path: Path) -> None:
    refuse_small_disk(tmp_path / "not" / "there" / "yet", 1000, 500)
    refuse_small_disk(tmp_path, 1000, 500, limit=500)
    with pytest.raises(StudyError, match=r"--store-limit 499 B does not hold the first candidate's 500 B"):
        refuse_small_disk(tmp_path, 1000, 500, limit=499)
    with pytest.raises(StudyError, match=r"free; the artefact store needs .* the first candidate's .*--store"):
        refuse_small_disk(tmp_path, 10**18, 5 * 10**17)
