"""A study's registered model: a version a kept model, made once, and aliases that move."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_tracking.mirror import Mirror
from mlflow_tracking.registry import KeptModel, model_name
from mlflow_tracking.trial_fields import MirroredTrial
from search_spaces.candidate import Candidate
from search_spaces.methods.quantizers import RTN
from tests.support.examples import BASE, measurement

ALIASES = ("knee", "smallest", "smallest-at-99")


@pytest.fixture(name="store", scope="module")
def module_store(new_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{shutil.copyfile(new_mlflow_store, tmp_path_factory.mktemp('registry') / 'mlflow.db')}"


def kept(mirror: Mirror, folder: Path, bits: int, *aliases: str) -> KeptModel:
    at = "2026-01-01T00:00:00+00:00"
    trial = MirroredTrial(bits, Candidate(BASE, (RTN(bits=bits),)), "dev", measurement(), at, at, "host", 1, {})
    mirror.study(folder.name, {}, {})
    run_id = mirror.trial(trial)
    weights = folder / f"trial-{bits}"
    model_id = mirror.model(trial, run_id, weights)
    return KeptModel(trial.uid, run_id, model_id, weights, f"**Trial {bits}**", at, aliases)


def versions(client: Any, name: str) -> dict[str, Any]:
    return {str(one.version): one for one in client.search_model_versions(f"name = '{name}'")}


def test_a_version_is_made_once_and_an_alias_follows_the_frontier(store: str, tmp_path: Path) -> None:
    client, folder = MlflowClient(store), tmp_path / "alma 7b: news"
    mirror = Mirror(store, str(folder), tmp_path)
    four, three = kept(mirror, folder, 4, "knee", "smallest"), kept(mirror, folder, 3)
    name = mirror.register(folder.name, [four], ALIASES)
    assert name == "alma-7b-news"
    client.set_registered_model_alias(name, "production", "1")
    (version,) = versions(client, name).values()
    assert version.source == (folder / "trial-4").as_uri()
    assert version.run_id == four.run_id and version.description == "**Trial 4**"
    assert version.tags["artefact"] == str(folder / "trial-4") and version.tags["kept"] == "yes"
    linked = client.get_logged_model(four.model_id).tags["mlflow.modelVersions"]
    assert json.loads(linked) == [{"name": name, "version": "1"}]
    # A resumed search has a mirror of its own; the smallest is another, and what was kept first is given up.
    again = Mirror(store, str(folder), tmp_path)
    again.study(folder.name, {}, {})
    assert again.register(folder.name, [replace(three, aliases=("smallest",))], ALIASES) == name
    assert client.get_registered_model(name).aliases == {"smallest": 2, "production": 1}
    found = versions(client, name)
    assert {number: one.tags["kept"] for number, one in found.items()} == {"1": "no", "2": "yes"}
    again.register(folder.name, [replace(four, card="new", aliases=()), replace(three, aliases=("knee",))], ALIASES)
    assert client.get_registered_model(name).aliases == {"knee": 2, "production": 1}
    found = versions(client, name)
    assert {number: (one.tags["kept"], one.description) for number, one in found.items()} == {
        "1": ("yes", "new"), "2": ("yes", "**Trial 3**"),
    }  # fmt: skip
    assert client.get_logged_model(four.model_id).tags["mlflow.modelVersions"] == linked


def test_two_studies_of_one_name_have_a_registered_model_each(store: str, tmp_path: Path) -> None:
    names = []
    for parent in ("first", "second", "first"):
        folder = tmp_path / parent / "same"
        mirror = Mirror(store, str(folder), tmp_path)
        names.append(mirror.register("same", [kept(mirror, folder, 4)], ALIASES))
    assert names[0] == names[2] == "same"
    assert names[1] is not None and names[1].startswith("same-") and len(names[1]) == len("same-") + 8
    assert len(versions(MlflowClient(store), "same")) == 1


def test_a_study_that_kept_nothing_registers_nothing(store: str, tmp_path: Path) -> None:
    mirror = Mirror(store, "empty", tmp_path)
    mirror.study("empty", {}, {})
    assert mirror.register("empty", [], ALIASES) is None
    assert "empty" not in {one.name for one in MlflowClient(store).search_registered_models()}


@pytest.mark.parametrize(
    ("study", "name"), [("alma", "alma"), ("o'brien/the best: 7B", "o-brien-the-best-7B"), ("日本", "study")]
)
def test_a_name_is_what_a_models_uri_takes(study: str, name: str) -> None:
    assert model_name(study) == name
