"""A whole search on a real Ray, a real MLflow and the shipped model: what it writes, and that it holds together."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from search_spaces.candidate import candidate_from_json
from search_spaces.methods.timable import timable_on_cpu
from tests.ray.conftest import ROOT, Command, ledger_lines, mtpareto, timed, trials
from workers.loading.load import load_model, load_tokenizer

TRIALS = 7


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_study: list[str], small_test: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = mtpareto(
        "search",
        *small_study,
        "--test",
        str(small_test),
        "--space",
        "joint",
        "--trials",
        str(TRIALS),
        "--out",
        str(folder),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Quality-versus-size frontier" in done.stdout
    assert str(folder / "report.html") in done.stdout
    assert "mlflow.db" in done.stdout
    assert "left" in done.stdout, "no line said how much time was left"
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "frontier.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_trial_ends_in_one_outcome_and_the_baseline_is_trial_0(run: Path) -> None:
    on_dev = [line for line in trials(run) if line["split"] == "dev"]
    assert sorted(line["number"] for line in on_dev) == list(range(TRIALS))
    assert len({line["digest"] for line in on_dev}) == TRIALS
    assert next(line for line in on_dev if line["number"] == 0)["candidate"]["steps"] == []
    assert ledger_lines(run)[-1] == {"kind": "end", "complete": True}


def test_frontier_csv_has_the_documented_columns_and_a_true_frontier(run: Path) -> None:
    points = [point for point in rows(run) if not point["race"] and not point["kept_off"]]
    assert list(points[0])[:10] == [
        "trial", "steps", "bytes", "ratio", "chrf", "bleu", "worst_pair", "chrf_low", "chrf_high", "on_frontier",
    ]  # fmt: skip
    assert points[0]["steps"] == "" and float(points[0]["ratio"]) == 1.0
    assert float(points[0]["chrf_low"]) == float(points[0]["chrf_high"]) == 0.0
    sizes = {point["trial"]: int(point["bytes"]) for point in points}
    front = {point["trial"] for point in points if point["on_frontier"] == "1"}
    assert min(sizes, key=lambda trial: (sizes[trial], int(trial))) in front
    for point in points:
        assert (point["on_frontier"] == "1") + bool(point["tie"]) + bool(point["beaten_by"]) == 1
        if point["tie"]:
            assert point["tie"] in front and sizes[point["tie"]] <= sizes[point["trial"]]
        if point["beaten_by"]:
            assert sizes[point["beaten_by"]] <= sizes[point["trial"]]


def stands(point: dict[str, str]) -> bool:
    """Whether it is on the frontier, or not told apart from it."""
    return point["on_frontier"] == "1" or bool(point["tie"])


def test_bytes_predicted_before_a_trial_are_those_written(run: Path) -> None:
    for line in trials(run):
        if line["outcome"]["kind"] == "measurement":
            written = line["outcome"]["footprint"]["bytes"]
            assert abs(line["predicted_bytes"] - written) <= 0.005 * written, line["candidate"]["steps"]


def test_what_dev_left_is_scored_once_on_held_out_data(run: Path) -> None:
    of = {line["digest"]: str(line["number"]) for line in trials(run) if line["split"] == "dev"}
    judged = [of[line["digest"]] for line in trials(run) if line["split"] == "test"]
    assert len(judged) == len(set(judged))
    table = {point["trial"]: point for point in rows(run)}
    assert set(judged) >= {trial for trial, point in table.items() if stands(point)} | {"0"}
    for trial in judged:
        point = table[trial]
        assert stands(point) or point["beaten_by"] or point["kept_off"].startswith("on held-out data")


def test_the_frontier_is_timed_last_as_it_ships(run: Path) -> None:
    judged = {line["digest"] for line in trials(run) if line["split"] == "test"}
    speeds = timed(run)
    worth = [candidate_from_json(line["candidate"]).steps for line in trials(run) if line["split"] == "test"]
    if not any(steps and timable_on_cpu(steps) for steps in worth) and not torch.cuda.is_available():
        assert speeds == [], "a CPU that can time the baseline alone compares it with nothing"
        return
    assert sorted(line["digest"] for line in speeds) == sorted(judged)
    assert min(line["number"] for line in speeds) > max(line["number"] for line in trials(run))
    for line in speeds:
        assert line["outcome"]["kind"] == "speed"
        if line["outcome"]["reason"] is None:
            assert set(line["outcome"]["tokens_s"]) == {"1", "8", "64"}
            assert min(line["outcome"]["tokens_s"].values()) > 0 < line["outcome"]["weights_bytes"]
        else:
            # Packed weights, on a machine without one.
            assert "need a GPU" in line["outcome"]["reason"]
            assert {step["method"] for step in line["candidate"]["steps"]} - {"remove_layers", "bitsandbytes"}
    baseline = rows(run)[0]
    assert float(baseline["speed_tokens_s_b64"]) > 0


def test_the_baseline_is_what_main_py_measures(run: Path, small_data: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "main.py",
        "--data",
        str(small_data),
        "--outdir",
        str(tmp_path / "one"),
        "--max_new_tokens",
        "32",
    ]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    summary = json.loads((tmp_path / "one" / "summary.json").read_text(encoding="utf-8"))
    baseline = rows(run)[0]
    assert float(baseline["chrf"]) == pytest.approx(summary["metrics"]["chrf"]["overall"], abs=1e-6)
    assert float(baseline["bleu"]) == pytest.approx(summary["metrics"]["bleu"]["overall"], abs=1e-6)


def test_kept_artefacts_load_in_transformers_without_this_project(run: Path) -> None:
    kept = sorted((run / "artefacts").iterdir())
    compressed = [point for point in rows(run) if stands(point) and point["steps"]]
    assert len(kept) == len(compressed) > 0
    # Quantized embeddings are a form of our own: transformers says that it finds no weights.
    folders = [folder for folder in kept if (folder / "model.safetensors").is_file()]
    own = [folder for folder in kept if folder not in folders]
    with_own_form = [point for point in compressed if re.search(r"embeddings(\(|=True)", point["steps"])]
    assert len(own) == len(with_own_form)
    code = (
        "import sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "assert not any(name.split('.')[0] in ('workers', 'orchestrator') for name in sys.modules)\n"
        "for folder in sys.argv[1:]:\n"
        "    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)\n"
        "    tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "    prompt = 'Translate this from English to German:\\nEnglish: A man rides a bike.\\nGerman:'\n"
        "    ids = tokenizer(prompt, return_tensors='pt')\n"
        "    out = model.generate(**ids, max_new_tokens=20, do_sample=False)\n"
        "    text = tokenizer.decode(out[0, ids['input_ids'].shape[1]:], skip_special_tokens=True)\n"
        "    assert text.strip(), folder\n"
        "print('loaded', len(sys.argv) - 1)\n"
    )
    command = [sys.executable, "-I", "-c", code, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=run)
    assert done.stdout.strip().endswith(f"loaded {len(folders)}"), done.stderr
    for folder in own:
        with pytest.raises(OSError, match="no file named model"):
            AutoModelForCausalLM.from_pretrained(folder)
        model, tokenizer = load_model(folder, "cpu"), load_tokenizer(folder)
        ids = tokenizer("Translate this from English to German:\nEnglish: A dog.\nGerman:", return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=20, do_sample=False)
        assert tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip(), folder


def test_nothing_is_left_behind_but_what_the_docs_name(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        "ledger.jsonl", "frontier.csv", "frontier.png", "report.html", "hypotheses", "artefacts", "search.lock",
        "ledger.lock", "samples",
    }  # fmt: skip


def test_mlflow_holds_the_study_its_trials_and_a_model_for_each_kept_artefact(run: Path, here: Command) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mtpareto")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [item for item in runs if "mtpareto.study" in item.data.tags]
    children = [item for item in runs if item.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(parents) == 1 and parents[0].info.status == "FINISHED"
    assert len(children) == len(trials(run))
    baseline = next(
        item for item in children if item.data.tags["kind"] == "baseline" and item.data.tags["split"] == "dev"
    )
    assert baseline.data.metrics["chrf"] == pytest.approx(float(rows(run)[0]["chrf"]), abs=1e-6)
    models = client.search_logged_models([experiment.experiment_id])
    assert len(models) == len(list((run / "artefacts").iterdir()))
    assert all(Path(model.tags["artefact"]).is_dir() for model in models)

    assert here("mirror", str(run)).returncode == 0
    again = client.search_runs([experiment.experiment_id], max_results=1000)
    assert len(again) == len(runs), "mirroring a second time made runs twice"
    assert len(client.search_logged_models([experiment.experiment_id])) == len(models)


def test_resume_of_a_finished_study_runs_nothing(run: Path, here: Command) -> None:
    before = trials(run)
    done = here("resume", str(run))
    assert done.returncode == 0, done.stdout + done.stderr
    assert trials(run) == before


def test_what_every_trial_is_warned_of_is_said_once_and_stands_in_notes_and_report(
    runs: Path, small_data: Path, here: Command
) -> None:
    model, run = shutil.copytree(ROOT / "models" / "captions", runs / "model"), runs / "run"
    settings = json.loads((model / "generation_config.json").read_text(encoding="utf-8"))
    (model / "generation_config.json").write_text(json.dumps({**settings, "encoder_no_repeat_ngram_size": 9}))
    done = here(
        "search", "--model", str(model), "--data", str(small_data), "--max-new-tokens", "24", "--space", "depth",
        "--trials", "2", "--no-speed", "--out", str(run),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    warning = "translating with generate, which is slower: its generation config sets encoder_no_repeat_ngram_size=9"
    assert done.stdout.count(f"warning: {warning}\n") == 1
    assert done.stdout.index(warning) < done.stdout.index("[2/2]")
    assert [line["outcome"]["notes"].count(warning) for line in trials(run)] == [1, 1]
    assert warning in (run / "report.html").read_text(encoding="utf-8")
