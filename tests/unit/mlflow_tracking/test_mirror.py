"""A trial in MLflow: its numbers follow the study, a raced trial's are told apart, and words become tags."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlflow_tracking.experiment import DESCRIPTION, DESCRIPTION_TAG, KIND_TAG, MODEL_TRAINING
from mlflow_tracking.mirror import EXPERIMENT, Mirror
from mlflow_tracking.registry import KeptModel
from mlflow_tracking.standing import COLOUR_TAG, COLOURS, standing_tags
from mlflow_tracking.trial_fields import MirroredTrial, name_of
from orchestrator.finish.mirroring import mirror_ledger
from orchestrator.ledger.records import LedgerWriter, create_ledger, read_ledger
from search_spaces.candidate import Candidate
from search_spaces.curve import Curve
from search_spaces.methods.pruners import TrimVocabulary
from search_spaces.methods.quantizers import RTN, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.outcome import Measurement, Race, Score
from tests.support import examples
from tests.support.examples import BASE, measurement

RACE = Race("dominated", 3, 64, -9.8, -4.1, 52.0)


@pytest.fixture(name="store", scope="module")
def module_store(new_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{shutil.copyfile(new_mlflow_store, tmp_path_factory.mktemp('mirror') / 'mlflow.db')}"


def trial(outcome: Measurement, bits: int, more: dict[str, float], words: dict[str, str]) -> MirroredTrial:
    at = "2026-01-01T00:00:00+00:00"
    return MirroredTrial(bits, Candidate(BASE, (RTN(bits=bits),)), "dev", outcome, at, at, "host", 1, more, words)


def mirrored(store: str, tmp_path: Path, given: MirroredTrial) -> Any:
    from mlflow import MlflowClient

    mirror = Mirror(store, "study", tmp_path)
    mirror.study("study", {}, {})
    run_id = mirror.trial(given)
    assert MlflowClient(store).get_experiment_by_name(EXPERIMENT) is not None
    return MlflowClient(store).get_run(run_id).data


def test_a_number_that_falls_and_a_word_that_goes_are_brought_up_to_date(store: str, tmp_path: Path) -> None:
    outcome = replace(measurement({"en-de": 50.0, "en-zh": 30.0}), sanity={"empty": 0.25})
    first = mirrored(store, tmp_path, trial(outcome, 4, {"on_frontier": 1.0}, {"tie": "trial 2", "kept_off": ""}))
    assert (first.metrics["on_frontier"], first.tags["tie"]) == (1.0, "trial 2")
    assert "kept_off" not in first.tags
    assert (first.metrics["chrf"], first.metrics["chrf.worst_pair"], first.metrics["sanity.empty"]) == (
        40.0,
        30.0,
        0.25,
    )
    later = mirrored(store, tmp_path, trial(outcome, 4, {"on_frontier": 0.0}, {"tie": "", "kept_off": "a reason"}))
    assert (later.metrics["on_frontier"], later.tags["tie"], later.tags["kept_off"]) == (0.0, "", "a reason")


def test_what_a_trial_noted_is_its_runs_description(store: str, tmp_path: Path) -> None:
    noted = replace(measurement(47.0), notes=("trained on 2,000 tokens", "training made it worse: …"))
    tags = mirrored(store, tmp_path, trial(noted, 8, {}, {})).tags
    assert tags["mlflow.note.content"] == "- trained on 2,000 tokens\n- training made it worse: …"
    assert "mlflow.note.content" not in mirrored(store, tmp_path, trial(measurement(46.0), 3, {}, {})).tags


def test_a_place_comes_before_the_notes_once_it_is_known_and_changes_with_it(store: str, tmp_path: Path) -> None:
    noted = replace(measurement(45.0), notes=("trained on 4,000 tokens",))

    def described(place: str, said: str) -> tuple[str, str]:
        words = standing_tags(place, said, noted.notes)
        given = trial(noted, 2, {}, words if said else {})
        own = replace(given, candidate=Candidate(BASE, (RTN(bits=2, group_size=32),)))
        tags = mirrored(store, tmp_path, own).tags
        return tags.get(COLOUR_TAG, ""), tags[DESCRIPTION_TAG]

    notes = "- trained on 4,000 tokens"
    assert described("frontier", "") == ("", notes)
    assert described("frontier", "first") == (COLOURS["frontier"], f"Standing: first.\n\n{notes}")
    assert described("beaten", "second") == (COLOURS["beaten"], f"Standing: second.\n\n{notes}")


def test_a_raced_trial_has_no_number_under_the_name_of_a_whole_measurement(store: str, tmp_path: Path) -> None:
    raced = mirrored(store, tmp_path, trial(replace(measurement(48.0), race=RACE), 2, {}, {"race": "dropped"}))
    assert raced.metrics["raced.chrf"] == 48.0
    assert "chrf" not in raced.metrics
    assert (raced.metrics["race.projected"], raced.metrics["race.segments"]) == (52.0, 64.0)
    assert raced.tags["race"] == "dropped"


def test_the_worst_pair_of_an_error_rate_is_the_highest(store: str, tmp_path: Path) -> None:
    by_pair = {"en-de": Score(20.0, "s"), "en-zh": Score(70.0, "s")}
    data = mirrored(store, tmp_path, trial(replace(measurement(), scores={"ter": by_pair}), 8, {}, {}))
    assert data.metrics["ter.worst_pair"] == 70.0


def test_a_divergence_is_logged_as_the_mean_over_pairs_of_a_raced_trial_too(store: str, tmp_path: Path) -> None:
    outcome = replace(measurement(48.0), divergence={"en-de": 0.25, "en-zh": 0.75})
    assert mirrored(store, tmp_path, trial(outcome, 4, {}, {})).metrics["divergence_nats"] == 0.5
    raced = mirrored(store, tmp_path, trial(replace(outcome, race=RACE), 2, {}, {}))
    assert raced.metrics["divergence_nats"] == 0.5
    assert "divergence_nats" not in mirrored(store, tmp_path, trial(measurement(48.0), 8, {}, {})).metrics


@pytest.mark.parametrize("folder", ["/tmp/o'brien/runA", '/tmp/o\'brien/the "best" 100 %\\', '/tmp/the "best"\\'])
def test_a_study_in_a_folder_with_quotes_is_found_again(store: str, tmp_path: Path, folder: str) -> None:
    given = trial(measurement(47.0), 8, {}, {})
    told = []
    for _ in range(2):
        mirror = Mirror(store, folder, tmp_path)
        parent = mirror.study("quoted", {}, {})
        run_id = mirror.trial(given)
        told.append((parent, run_id, mirror.model(given, run_id, tmp_path / "artefact")))
    assert told[0] == told[1]
    assert Mirror(store, "/tmp/another", tmp_path).study("another", {}, {}) != told[0][0]


def test_the_tag_of_a_study_is_its_folder_and_a_uri_where_that_has_an_apostrophe(store: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    tags = []
    for folder in ('/tmp/100 % "sure"', "/tmp/o'brien/run A", "/tmp/o%27brien/run A"):
        parent = Mirror(store, folder, tmp_path).study("tagged", {}, {})
        tags.append(MlflowClient(store).get_run(parent).data.tags["mtpareto.study"])
    assert tags == ['/tmp/100 % "sure"', "file:///tmp/o%27brien/run%20A", "/tmp/o%27brien/run A"]


def test_curves_are_logged_by_tokens_read_from_the_ledger_alone_and_once(store: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    first = Curve("recover()", ((0, None, 0.0, 41.5), (500, 2.25, 48_000.0, None), (1000, 1.5, 47_000.0, 61.25)))
    second = Curve("finetune()", ((0, None, 0.0, None), (700, 1.25, 9000.0, None)))
    folder = tmp_path / "curves"
    create_ledger(folder, {"spec": {}, "conditions": {}})
    outcome = replace(measurement(48.0), race=RACE, curves=(first, second))
    LedgerWriter(str(folder)).append(examples.trial(outcome, (RTN(bits=3),), number=1), [{"text": "x"}])
    client = MlflowClient(store)
    for _ in range(2):
        mirror_ledger(Mirror(store, str(folder), tmp_path), folder, read_ledger(folder), set())
    parent = Mirror(store, str(folder), tmp_path).study("curves", {}, {})
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    logged = {
        key: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]
        for key in sorted(run.data.metrics)
        if key.startswith(("training_", "held_out_"))
    }
    assert logged == {
        "held_out_chrf": [(0, 41.5), (1000, 61.25)],
        "training_loss": [(500, 2.25), (1000, 1.5)],
        "training_loss_2": [(700, 1.25)],
        "training_tokens_s": [(500, 48_000.0), (1000, 47_000.0)],
        "training_tokens_s_2": [(700, 9000.0)],
    }


def test_held_out_numbers_have_names_of_their_own_and_the_candidates_trial(store: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = tmp_path / "split"
    create_ledger(folder, {"spec": {}, "conditions": {}})
    writer = LedgerWriter(str(folder))
    steps = (RTN(bits=3),)
    writer.append(examples.trial(measurement(48.0), steps, number=5), [{"text": "x"}])
    writer.append(examples.trial(measurement(46.5), steps, number=16, split="test"), [{"text": "x"}])
    mirror_ledger(Mirror(store, str(folder), tmp_path), folder, read_ledger(folder), set())
    client = MlflowClient(store)
    parent = Mirror(store, str(folder), tmp_path).study("split", {}, {})
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    dev, test = sorted((run for run in runs), key=lambda run: run.data.tags["split"])
    assert (dev.info.run_name, test.info.run_name) == (
        "005 rtn 3-bit g64",
        "005 rtn 3-bit g64 [test]",
    )
    assert dev.data.metrics["chrf"] == 48.0 and test.data.metrics["test_chrf"] == 46.5
    shared = dev.data.metrics.keys() & test.data.metrics.keys()
    assert shared == {"bytes", "bytes_mb", "compressed_fraction"}
    assert dev.data.metrics["bytes_mb"] == dev.data.metrics["bytes"] / 1_000_000
    assert "attempt" not in dev.data.metrics and dev.data.tags["attempt"] == "1"


def test_a_run_that_was_named_otherwise_is_named_anew(store: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    mirror, client = Mirror(store, "renamed", tmp_path), MlflowClient(store)
    mirror.study("renamed", {}, {})
    given = trial(measurement(47.0), 8, {}, {})
    run_id = mirror.trial(given)
    client.update_run(run_id, name="16: old")
    assert mirror.trial(given) == run_id
    assert client.get_run(run_id).info.run_name == "008 rtn 8-bit g64"


def test_names_are_short_and_sort_by_trial() -> None:
    steps = (TrimVocabulary(tokens=6016), RTN(bits=4), QuantizeEmbeddings(bits=8))
    at = "2026-01-01T00:00:00+00:00"

    def named(number: int, steps: tuple[Step, ...]) -> str:
        return name_of(MirroredTrial(number, Candidate(BASE, steps), "dev", measurement(), at, at, "host", 1, {}))

    names = [named(0, ()), named(3, steps), named(20, ())]
    assert names == ["000 baseline", "003 6,016 tokens · rtn 4-bit g64 · emb 8-bit g64", "020 baseline"]
    assert sorted(names) == names


def test_an_experiment_opens_as_model_training_and_says_how_to_read_it(store: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(store)
    Mirror(store, "introduced", tmp_path, "introduced")
    tags = client.get_experiment_by_name("introduced").tags
    assert (tags[KIND_TAG], tags[DESCRIPTION_TAG]) == (MODEL_TRAINING, DESCRIPTION)


def test_an_experiments_own_kind_and_description_stay(store: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(store)
    own = client.create_experiment("own", tags={KIND_TAG: "finetuning", DESCRIPTION_TAG: "ours"})
    guessed = client.create_experiment("guessed", tags={KIND_TAG: "genai_development_inferred"})
    older = client.create_experiment("older", tags={DESCRIPTION_TAG: DESCRIPTION[:60]})
    for name in ("own", "guessed", "older"):
        Mirror(store, "any", tmp_path, name)
    kept = client.get_experiment(own).tags
    assert (kept[KIND_TAG], kept[DESCRIPTION_TAG]) == ("finetuning", "ours")
    assert client.get_experiment(guessed).tags[KIND_TAG] == MODEL_TRAINING
    assert client.get_experiment(older).tags[DESCRIPTION_TAG] == DESCRIPTION


def test_a_search_has_imported_mlflow_before_its_mirror_works_beside_it() -> None:
    code = (
        "import sys, pathlib; from orchestrator.finish.mirroring import MirrorThread; "
        "MirrorThread(lambda: None, pathlib.Path()); print('mlflow.entities' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_new_study_in_a_folder_that_an_earlier_one_had_has_records_of_its_own(store: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    given, made = trial(measurement(47.0), 8, {}, {}), []
    for started in ("2026-01-01T10:00:00+00:00", "2026-01-02T10:00:00+00:00", "2026-01-02T10:00:00+00:00"):
        mirror = Mirror(store, "/tmp/taken twice", tmp_path)
        parent = mirror.study("taken", {}, {}, started)
        run = mirror.trial(given)
        model = mirror.model(given, run, tmp_path / "artefact")
        kept = KeptModel(given.uid, run, model, tmp_path / "artefact", "card", given.ended, ("knee",))
        name = mirror.register("taken", [kept], ("knee",))
        made.append((parent, run, model, name))
    earlier, later, again = made
    assert later == again
    assert not set(earlier[:3]) & set(later[:3])
    client = MlflowClient(store)
    assert [client.get_run(run).data.tags["study"] for run in (*earlier[:2], *later[:2])] == [
        "taken (2026-01-01 10:00)", "taken (2026-01-01 10:00)", "taken", "taken"
    ]  # fmt: skip
    # The registered model is one; its alias is of the later study's version.
    assert earlier[3] == later[3]
    assert client.get_model_version_by_alias(str(later[3]), "knee").run_id == later[1]
