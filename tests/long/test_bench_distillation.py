"""`mtpareto bench distillation`: its parts recovery and on several devices, run tiny, and what it refuses."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.benches import distillation as bench_distillation
from orchestrator.benches.distillation import DistillationRequest
from orchestrator.benches.figures import DISTILLATION
from orchestrator.benches.table import as_page, explain_figure
from orchestrator.cli import main
from orchestrator.study.shipped import SHIPPED_CALIBRATION
from search_spaces.methods.trainers import Finetune
from workers.benches import distillation_bench, sharded_speed
from workers.benches.compression_speed import SHAPES
from workers.benches.sharded_speed import TINY, TINY_LOAD, Seen, SpeedReport, compared, curve_gaps, sharded_figures


def sharded(output: Path, shape: str) -> int:
    return main(["bench", "distillation", "--json", str(output), "--parts", "sharded", "--shape", shape])


def test_recovery_is_trained_on_made_up_sources_in_the_bytes_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = gzip.decompress(SHIPPED_CALIBRATION.read_bytes()).decode().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(rows[12:600]), encoding="utf-8")
    (tmp_path / "test.jsonl").write_text("".join(rows[:12]), encoding="utf-8")
    little = Finetune(tokens=600, batch=8, warm_up=1, loss="forward_kl")
    monkeypatch.setattr(distillation_bench, "SEEDS", (0,))
    monkeypatch.setattr(distillation_bench, "HEALED", little)
    monkeypatch.setattr(distillation_bench, "AWARE", replace(little, beams=2, reference_share=0.5))
    monkeypatch.setattr(bench_distillation, "MADE_UP", 200)
    output = tmp_path / "out.json"
    files = ["--data", str(tmp_path / "test.jsonl"), "--training", str(tmp_path / "train.jsonl")]
    assert main(["bench", "distillation", "--json", str(output), "--parts", "recovery", *files]) == 0
    record = json.loads(output.read_text(encoding="utf-8"))
    figures = record["figures"]
    for bits in (3, 2):
        assert figures[f"bytes_recovered{bits}"] == figures[f"bytes_gptq{bits}"] < figures["bytes_gptq4"]
        assert figures[f"chrf_recovered{bits}"] == figures[f"chrf_recovered{bits}_least"] > 0.0
    assert figures["chrf_half_healed"] == pytest.approx(
        figures["half_depth_chrf_share"] * figures["chrf_baseline"], rel=1e-3
    )
    assert record["conditions"]["made up"] == "200 sources, drawn 10 times as often as a file's pairs"
    assert all(explain_figure(name, DISTILLATION)[0] for name in figures)
    said = capsys.readouterr().err
    # The same seed's at 2 bits were made already.
    assert said.count("teacher's translations 100 %") == 1 and "half_healed: chrF " in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the GPUs that are there")
def test_two_processes_on_a_cpu_show_the_loss_curve_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = ("one_gpu", "zero2", "zero3")
    monkeypatch.setattr(sharded_speed, "WAYS", {way: sharded_speed.WAYS[way] for way in ways})
    output = tmp_path / "out.json"
    assert sharded(output, TINY) == 0
    record = json.loads(output.read_text(encoding="utf-8"))
    figures = record["figures"]
    speeds = [figures[f"{way}_tokens_s"] for way in ways]
    assert min(speeds) > 0.0 and figures["curve_points"] == TINY_LOAD.steps
    assert figures["zero2_speedup_2gpu"] == pytest.approx(speeds[1] / speeds[0], rel=1e-3)
    assert figures["zero3_speedup_2gpu"] == pytest.approx(speeds[2] / speeds[0], rel=1e-3)
    gaps = [figures[f"{way}_curve_gap{of}"] for way in ways[1:] for of in ("", "_mean")]
    assert max(gaps) < 1e-3
    assert all(explain_figure(name, DISTILLATION)[0] for name in figures)
    assert record["conditions"]["shape"] == TINY
    assert "8 pairs a step of 8 to 32 tokens" in record["conditions"]["sharded"]
    assert output.with_suffix(".md").read_text(encoding="utf-8") == as_page(record, DISTILLATION)


@pytest.mark.parametrize(
    ("gpus", "shape", "reason"),
    [
        (0, "llama-1b", "the part sharded trains llama-1b on 2 GPUs of one host, and there is no GPU"),
        (1, "llama-1b", "and there is one Spare GPU; take a host with two"),
        (1, TINY, "and there is one Spare GPU; take a host with two"),
        (2, "llama", "shape is 'llama'; there are llama-1b, mistral-7b, small"),
    ],
)
def test_without_two_gpus_it_says_what_is_there(
    gpus: int,
    shape: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Spare GPU")
    assert sharded(tmp_path / "out.json", shape) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("part", "flag"), [("cached", "--shape"), ("rate", "--large-shape")])
def test_a_shape_that_there_is_not_is_refused_at_once(
    part: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--json", str(tmp_path / "out.json"), "--parts", part, flag, "mistral7b"]
    assert main(["bench", "distillation", *asked]) == 2
    assert "shape is 'mistral7b'; there are mistral-7b, llama-1b" in capsys.readouterr().err


def test_figures_of_a_part_are_kept_where_a_later_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(request: Any, say: Any) -> Any:
        raise RuntimeError("out of luck")

    parts: dict[Any, Any] = {("cached",): lambda request, say: ({"a": 1.0}, {"shape": "x"}), ("rate",): fails}
    monkeypatch.setattr(bench_distillation, "_PARTS", parts)
    output = tmp_path / "out.json"
    request = DistillationRequest(output=output, parts=("rate", "cached"), data=None, training=())
    with pytest.raises(RuntimeError, match="out of luck"):
        bench_distillation.bench_distillation(request, "the command", lambda line: None)
    record = json.loads(output.read_text(encoding="utf-8"))
    assert record["figures"] == {"a": 1.0} and record["conditions"]["parts"] == "cached"


def test_a_training_that_fails_is_told_with_the_figures_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The processes, which import anew, know no such shape.
    monkeypatch.setitem(SHAPES, "odd", SHAPES[TINY])
    monkeypatch.setattr(sharded_speed, "LARGE_LOAD", TINY_LOAD)
    monkeypatch.setattr(sharded_speed, "WAYS", {"one_gpu": sharded_speed.WAYS["one_gpu"]})
    said: list[str] = []
    with pytest.raises(RuntimeError, match=r"of 1 trainings, 1 failed \(one device: a process failed"):
        sharded_figures("odd", said.append)
    assert said[0].startswith("one device: a process failed") and said[1].startswith("sharded_parameters ")
    assert "KeyError: 'odd'" in capfd.readouterr().err
    monkeypatch.setattr(sharded_speed, "LIMIT", 0.01)
    with pytest.raises(RuntimeError, match="had not ended"):
        sharded_figures("odd", said.append)


def test_curves_are_compared_over_the_stretches_that_the_coarser_one_has() -> None:
    coarse = [SpeedReport(0.0, 30, 5.0), SpeedReport(1.0, 50, 4.0)]
    finer = [SpeedReport(0.0, 10, 6.0), SpeedReport(0.0, 30, 4.8), SpeedReport(0.0, 50, 4.0), SpeedReport(0.0, 60, 1.0)]
    assert curve_gaps(coarse, finer) == pytest.approx([0.2, 0.0])
    with pytest.raises(ValueError, match="after 30 tokens"):
        curve_gaps(coarse, finer[::2])


def test_what_is_there_is_compared_and_the_first_steps_are_not_timed() -> None:
    def seen(seconds: float, loss: float) -> Seen:
        return Seen(
            tuple(SpeedReport(-10.0 * (step < 2) + step * seconds, 100 * step, loss) for step in range(1, 9)), 2.0
        )

    figures = compared(
        {"one_gpu": seen(2.0, 3.0), "zero3": seen(1.0, 2.5), "one_gpu_halved": seen(2.0, 2.9)}, TINY_LOAD
    )
    assert figures["one_gpu_tokens_s"] == 50.0 and figures["zero3_tokens_s"] == 100.0
    assert figures["zero3_speedup_2gpu"] == 2.0 and figures["zero3_curve_gap_mean"] == 0.5
    assert figures["one_gpu_halved_curve_gap"] == pytest.approx(0.1)
    assert not any(name.startswith("zero2") for name in figures)
    assert set(compared({"zero2": seen(1.0, 3.0)}, TINY_LOAD)) == {"zero2_tokens_s", "zero2_peak_gib"}
