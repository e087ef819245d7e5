"""A dry run: what a study would try and take, with nothing started or written."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli import main
from orchestrator.number_format import spell_bytes
from orchestrator.search import dry_run as module
from orchestrator.search.dry_run import count_candidates, dry_run, plan_trials, request_tokens
from orchestrator.search.estimates import (
    MOST_TOKENS_S,
    bytes_beside_weights,
    expected_tokens,
    running_bytes,
    training_tokens_s,
    translating_seconds,
    trial_seconds,
)
from orchestrator.search.loop import foreseen_seconds, proposer_of
from orchestrator.search.prepared import Study, prepare
from orchestrator.study.spec import StudySpec, spec_from_mapping
from search_spaces.errors import StudyError
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import GPTQ, RTN, BitsAndBytes, MixedWidths
from search_spaces.predicted_size import predicted_bytes
from tests.support.examples import llama_table
from tests.support.paths import ROOT

DATA = str(ROOT / "data" / "subset.jsonl")


def spec(folder: Path, **more: object) -> StudySpec:
    return spec_from_mapping({"data": DATA, "out": str(folder / "run"), "trials": 15, **more}).absolute()


def prepared(folder: Path, **more: object) -> Study:
    return prepare(spec(folder, **more), Console(quiet=True))


def said(folder: Path, **more: object) -> str:
    out = io.StringIO()
    dry_run(spec(folder, **more), Console(file=out, width=160))
    return out.getvalue()


def test_it_lists_the_first_trials_with_their_sizes_and_what_all_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "gpu_memory", lambda: None)
    anchors = [[{"method": "hqq", "bits": 3}]]
    text = said(tmp_path, anchors=anchors, max_new_tokens=64)
    lines = text.splitlines()
    assert any("baseline" in line and "1.00x" in line for line in lines)
    assert any(line.split()[:3] == ["1", "hqq", "3-bit"] for line in lines)
    for name in ("model", "space", "trials", "memory", "disk", "time"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert lines[-1] == "dry run   nothing was started or written"
    assert not (tmp_path / "run").exists() and list(tmp_path.iterdir()) == []


def test_predicted_sizes_are_those_of_the_search(tmp_path: Path) -> None:
    study = prepared(tmp_path, space="bit-width")
    planned, refused = plan_trials(study)
    assert refused == [] and [one.part for one in planned] == ["", *["profile"] * 7]
    assert planned[0].bytes == study.checkpoint.bytes
    assert planned[1].bytes == predicted_bytes(study.checkpoint, (GPTQ(bits=4),))
    few = prepared(tmp_path, space="bit-width", trials=3)
    assert len(plan_trials(few)[0]) == 3


def test_what_is_timed_for_an_objective_is_listed_after_the_profile(tmp_path: Path) -> None:
    planned, _ = plan_trials(prepared(tmp_path, space="bit-width", objectives="quality,bytes,speed"))
    assert [one.part for one in planned] == ["", *["profile"] * 7, *["timing"] * 7]
    timed = [one.label for one in planned if one.part == "timing"]
    assert timed[0] == "baseline" and len([label for label in timed if label.startswith("emb")]) == 2


def test_what_is_foreseen_is_what_the_search_proposes_first(tmp_path: Path) -> None:
    study = prepared(tmp_path, space="bit-width", anchors=[[{"method": "hqq", "bits": 3}]])
    foreseen = proposer_of(study).foreseen()
    assert [one.candidate.describe() for one in foreseen[:2]] == ["", foreseen[1].candidate.steps[0].describe()]
    proposer = proposer_of(study)
    assert proposer.foreseen() == proposer.foreseen() == foreseen, "asking proposes nothing"
    asked = [proposer.propose() for _ in foreseen]
    assert [one.candidate.digest for one in foreseen] == [one.candidate.digest for one in asked]  # type: ignore[union-attr]
    assert proposer.foreseen() == []
    known = [one.candidate.describe() for one, _ in foreseen_seconds(study, proposer_of(study))]
    assert known == [one.candidate.describe() for one in foreseen] and len(known) == 9


def test_of_a_small_space_every_candidate_is_foreseen(tmp_path: Path) -> None:
    planned, _ = plan_trials(prepared(tmp_path, space="width"))
    sizes = [one.bytes for one in planned]
    assert len(planned) == 8 and not any(one.part for one in planned)
    assert sizes == sorted(sizes, reverse=True)


def test_a_space_is_counted_as_far_as_time_goes(tmp_path: Path) -> None:
    study = prepared(tmp_path, space="depth")
    count, whole = count_candidates(study)
    assert (whole and count == 2 * (study.checkpoint.layers // 2)) or count > 0
    assert count_candidates(prepared(tmp_path, space="joint"), seconds=0.05)[1] is False


def test_a_trial_that_no_gpu_here_holds_is_refused_with_what_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = prepared(tmp_path, batch_size=64)
    one = running_bytes(study.checkpoint, (), 1, request_tokens(study))
    many = running_bytes(study.checkpoint, (), 64, request_tokens(study))
    monkeypatch.setattr(module, "gpu_memory", lambda: int((one + many) / 2 / 0.9))
    with pytest.raises(StudyError, match=r"baseline takes about .* of GPU memory, .*; with --batch-size 32 it fits"):
        said(tmp_path, batch_size=64)
    monkeypatch.setattr(module, "gpu_memory", lambda: one // 2)
    with pytest.raises(StudyError, match=r"at any batch size; with --gpus-per-trial \d+ its layers are spread"):
        said(tmp_path, batch_size=64)
    monkeypatch.setattr(module, "gpu_memory", lambda: 2 * many)
    assert f", of {spell_bytes(2 * many)} here" in said(tmp_path, batch_size=64)


def test_two_gpus_a_trial_are_twice_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = prepared(tmp_path)
    needed = running_bytes(study.checkpoint, (), study.spec.batch_size, request_tokens(study))
    monkeypatch.setattr(module, "gpu_memory", lambda: int(needed / 0.9 / 1.9))
    with pytest.raises(StudyError, match="GPU memory"):
        said(tmp_path)
    assert "dry run" in said(tmp_path, gpus_per_trial=2.0)


def test_a_trial_of_several_gpus_spreads_its_model_unless_a_device_is_named(tmp_path: Path) -> None:
    study = prepared(tmp_path)
    assert [study.plan(gpus).device_map for gpus in (0.0, 0.5, 1.0, 2.0)] == ["auto", "auto", "auto", "balanced"]
    assert prepared(tmp_path, device_map="cuda:1").plan(2.0).device_map == "cuda:1"


def test_memory_counts_weights_cache_and_logits() -> None:
    table = llama_table()
    alone = running_bytes(table, (), 1, 0)
    assert alone == 2 * table.parameters + 8 * 500
    assert running_bytes(table, (RTN(bits=4),), 1, 0) == alone
    assert running_bytes(table, (RemoveLayers(count=1), RTN(bits=4)), 1, 0) < alone


def test_a_larger_model_and_a_cpu_train_more_slowly(tmp_path: Path) -> None:
    shipped = prepared(tmp_path).checkpoint
    assert 3_000 < training_tokens_s(shipped, on_gpu=False) < 4_000
    assert training_tokens_s(shipped, on_gpu=True) == MOST_TOKENS_S
    name, tensor = next(iter(shipped.tensors.items()))
    large = replace(shipped, tensors={name: replace(tensor, shape=(7_000, 1_000_000))})
    assert training_tokens_s(large, on_gpu=True) == pytest.approx(1_700, rel=0.05)


def test_beside_weights_are_the_cache_and_the_logits_of_the_largest_batch_that_is_timed() -> None:
    table = replace(llama_table(), config={"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2})
    cache = 2 * 2 * 4 * 2 * 32 * 64
    assert bytes_beside_weights(table, (), 10) == cache * (10 + 64) + 2 * 64 * 500
    assert bytes_beside_weights(table, (RTN(bits=4),), 10) == bytes_beside_weights(table, (), 10)
    fewer = bytes_beside_weights(table, (RemoveLayers(count=1),), 10)
    assert fewer == cache * 3 // 4 * (10 + 64) + 2 * 64 * 500


def test_seconds_are_more_for_slower_methods_and_statistics_are_taken_once() -> None:
    def seconds(*steps: object, statistics: bool = False) -> float:
        return trial_seconds(llama_table(), steps, [64] * 512, 256, statistics)  # type: ignore[arg-type]

    assert seconds() < seconds(RTN(bits=4)) < seconds(MixedWidths(bits=3.5))
    assert seconds(GPTQ(bits=4)) < seconds(GPTQ(bits=4), statistics=True)
    assert seconds(RTN(bits=4)) == seconds(RTN(bits=4), statistics=True)
    assert seconds(BitsAndBytes(format="int8")) > seconds(BitsAndBytes(format="nf4"))


def test_the_command_ends_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["search", "--data", DATA, "--out", str(out), "--space", "depth", "--dry-run"]) == 0
    assert "dry run   nothing was started or written" in capsys.readouterr().out
    assert not out.exists()
    assert main(["search", "--data", DATA, "--out", str(out), "--store-limit", "1KB", "--dry-run"]) == 2
    assert "--store-limit 1.00 kB does not hold the first candidate's" in capsys.readouterr().err


def test_translations_are_as_long_as_their_references_and_probes_translate_nothing(tmp_path: Path) -> None:
    study = prepared(tmp_path, max_new_tokens=256)
    tokens = expected_tokens(study.data["dev"].segments, 256)
    assert len(tokens) == 252 and 5 < sum(tokens) / len(tokens) < 40
    assert max(expected_tokens(study.data["dev"].segments, 10)) == 10
    probes = [seconds for one, seconds in foreseen_seconds(study, proposer_of(study)) if one.split == "profile"]
    trials = [seconds for one, seconds in foreseen_seconds(study, proposer_of(study)) if one.split == "dev"]
    assert (
        len(probes) > 5
        and max(probes) < 10
        and trials == [trial_seconds(study.checkpoint, (), tokens, study.spec.batch_size, statistics=False)]
    )
    # Twice the segments at twice the batch are decoded in as many steps.
    once = translating_seconds(llama_table(), (), [30] * 64, 64)
    assert translating_seconds(llama_table(), (), [30] * 128, 128) == once
    assert translating_seconds(llama_table(), (), [30] * 128 + [200], 128) > once
