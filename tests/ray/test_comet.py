"""COMET from end to end: models built on the spot, scored by the actor in COMET's own environment, on the CPU."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
from fractions import Fraction
from pathlib import Path

import pytest
import ray
import torch
import transformers

from search_spaces.errors import StudyError
from tests.ray.conftest import Command, trials
from tests.support.tiny_comet import Row, built, in_comet, scored
from workers.comet.actor import start_comet
from workers.comet.environment import comet_python
from workers.comet.scores import comet_scores

WORDS = ("the", "old", "river", "bends", "where", "a", "quiet", "town", "keeps", "its", "bridges", "and", "counts")
ROUNDING = 1e-3


def sentences(count: int, seed: int) -> list[str]:
    """Of one to sixteen words, so that batches by length put them in another order."""
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS, k=drawn.randint(1, 16))) for _ in range(count)]


ROWS: list[Row] = [*zip(sentences(150, 1), sentences(150, 2), sentences(150, 3), strict=True)]
ROWS[7] = (ROWS[7][0], "", ROWS[7][2])
SOURCES, HYPOTHESES = ([row[at] for row in ROWS] for at in (0, 1))
REFERENCES = [(row[2], "a second reference, not looked at") for row in ROWS]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[float]]]:
    """kind -> a model, and the scores of ROWS by COMET's own `predict` in batches of 16."""
    root = tmp_path_factory.mktemp("comet")
    kinds = ("regression_metric", "referenceless_regression_metric", "unified_metric")
    orders = [order for kind in kinds for order in (built(root / kind, kind), scored(root / kind, ROWS, batch=16))]
    answers = in_comet(*orders, built(root / "published", named_encoder="xlm-roberta-large"))
    models = {kind: (root / kind, answers[2 * at + 1]) for at, kind in enumerate(kinds)}
    return models | {"published": (root / "published", answers[1])}


pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.mark.parametrize(
    "kind", ["regression_metric", "referenceless_regression_metric", "unified_metric", "published"]
)
def test_scores_are_those_of_comets_own_predict(
    models: dict[str, tuple[Path, list[float]]], tmp_path: Path, kind: str
) -> None:
    folder, expected = models[kind]
    scores = comet_scores(str(folder), SOURCES, HYPOTHESES, REFERENCES, tmp_path)
    assert scores == pytest.approx([100 * score for score in expected], abs=ROUNDING)
    assert len({round(score, 4) for score in scores}) > 100


def test_a_pair_is_scored_once_even_by_another_process_after_the_first_was_killed(
    models: dict[str, tuple[Path, list[float]]], tmp_path: Path
) -> None:
    model = str(models["regression_metric"][0])
    half = [part[:80] for part in (SOURCES, HYPOTHESES, REFERENCES)]
    first = comet_scores(model, *half, tmp_path)
    actor = start_comet(model, tmp_path)
    about = ray.get(actor.about.remote())
    assert (about["scored"], about["known"]) == (80, 80)
    assert about["python"] == str(comet_python()) and not transformers.__version__.startswith("4.")
    both = comet_scores(model, SOURCES, HYPOTHESES, REFERENCES, tmp_path)
    assert both[:80] == first
    assert ray.get(actor.about.remote())["scored"] == 150

    os.kill(about["pid"], signal.SIGKILL)
    assert comet_scores(model, SOURCES, HYPOTHESES, REFERENCES, tmp_path) == both
    again = ray.get(start_comet(model, tmp_path).about.remote())
    assert again["pid"] != about["pid"] and (again["scored"], again["known"]) == (0, 150)

    ray.kill(start_comet(model, tmp_path))
    assert comet_scores(model, SOURCES, HYPOTHESES, REFERENCES, tmp_path) == both


def test_a_worker_may_ask_and_what_it_started_may_end_with_it(
    models: dict[str, tuple[Path, list[float]]], tmp_path: Path
) -> None:
    folder, expected = models["unified_metric"]

    @ray.remote(num_cpus=0, max_calls=1)
    def in_a_worker(store: Path) -> list[float]:
        return comet_scores(str(folder), SOURCES[:20], HYPOTHESES[:20], REFERENCES[:20], store)

    scores = ray.get(in_a_worker.remote(tmp_path))
    assert scores == pytest.approx([100 * score for score in expected[:20]], abs=ROUNDING)
    assert comet_scores(str(folder), SOURCES[:20], HYPOTHESES[:20], REFERENCES[:20], tmp_path) == scores


def test_a_segment_without_a_reference_is_refused(models: dict[str, tuple[Path, list[float]]], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cometkiwi, which needs none"):
        comet_scores(str(models["regression_metric"][0]), SOURCES[:2], HYPOTHESES[:2], [("one",), ()], tmp_path)


def test_a_checkpoint_that_would_run_something_is_refused(
    models: dict[str, tuple[Path, list[float]]], tmp_path: Path
) -> None:
    folder = shutil.copytree(models["regression_metric"][0], tmp_path / "odd")
    content = torch.load(folder / "checkpoints" / "model.ckpt")
    torch.save(content | {"made": Fraction(1, 3)}, folder / "checkpoints" / "model.ckpt")
    with pytest.raises(StudyError, match=r"fractions\.Fraction"):
        comet_scores(str(folder), SOURCES[:1], HYPOTHESES[:1], REFERENCES[:1], tmp_path)


def test_a_search_by_comet_shows_chrf_beside_it(
    models: dict[str, tuple[Path, list[float]]], runs: Path, small_study: list[str], here: Command
) -> None:
    folder = runs / "comet"
    model = str(models["regression_metric"][0])
    done = here(
        "search", *small_study, "--space", "bit-width", "--trials", "3", "--quality", "comet", "--comet-model", model,
        "--no-speed", "--out", str(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    measured = [line["outcome"] for line in trials(folder)]
    assert [outcome["kind"] for outcome in measured] == ["measurement"] * 3
    for outcome in measured:
        assert next(iter(outcome["scores"])) == "comet" and {"chrf", "bleu"} < set(outcome["scores"])
        assert all("regression_metric" in score["signature"] for score in outcome["scores"]["comet"].values())
    with (folder / "frontier.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["quality"] for row in rows} == {"comet"} and all(float(row["chrf"]) > 0 for row in rows)
    best = max(float(row["comet"]) for row in rows)
    first = next(row for row in rows if float(row["comet"]) == best)
    assert first["on_frontier"] == "1" or first["tie"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "COMET" in page and "chrF" in page
