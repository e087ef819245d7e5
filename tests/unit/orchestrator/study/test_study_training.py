"""What a study trains on: its own directions, never what it is measured on, and the same when it goes on."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator import cli
from orchestrator.finish.run_folder import reopen
from orchestrator.ledger.records import create_ledger
from orchestrator.search.driver import resume_search, run_search
from orchestrator.search.prepared import header, prepare
from orchestrator.study.spec import StudySpec
from orchestrator.study.training import Training, read_training, refuse_changed_training, synthetic_file
from orchestrator.study.values import TrainingSource
from search_spaces.candidate import Candidate
from search_spaces.errors import CandidateError, StudyError, UserError
from search_spaces.methods.pruners import RemoveLayers, TrimVocabulary
from search_spaces.methods.quantizers import GPTQ, RTN
from search_spaces.methods.trainers import Distill, Finetune, Recover
from tests.support.examples import BASE, dataset, segment
from workers.evaluation.candidate_folder import artefact_key
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.errors import DataError
from workers.reading.training_data import TrainingData
from workers.translation.prompts import PROMPTS

QUIET = Console(quiet=True)
DEV = dataset([segment("A dog runs.", "Ein Hund rennt.")])
BOTH = dataset([segment("A dog runs.", "Ein Hund rennt."), segment("Zwei Leute.", "Two men.", langs="de-en", id="2")])


def write(path: Path, *rows: tuple[str, str, str]) -> str:
    lines = [json.dumps({"src": source, "ref": reference, "langs": langs}) for source, reference, langs in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def alma(path: Path, *pairs: tuple[str, str]) -> str:
    rows = [json.dumps({"translation": {"de": german, "en": english}}) for german, english in pairs]
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return write(tmp_path / "pairs.jsonl", ("A cat sleeps.", "Eine Katze schläft.", "en-de"))


def spec(tmp_path: Path, *files: str | TrainingSource, **fields: Any) -> StudySpec:
    dev = write(tmp_path / "dev.jsonl", ("A dog runs.", "Ein Hund rennt.", "en-de"))
    sources = tuple(TrainingSource(file) if isinstance(file, str) else file for file in files)
    return StudySpec(**{"out": str(tmp_path / "out"), "data": dev, "training": sources, **fields})


def found(tmp_path: Path, *files: str | TrainingSource, **data: Any) -> Training:
    training = read_training(spec(tmp_path, *files), data or {"dev": DEV})
    assert training is not None
    return training


def test_a_study_that_names_none_has_none(tmp_path: Path) -> None:
    study = prepare(spec(tmp_path), QUIET)
    assert (study.training, study.plan(gpus=0).training, header(study)["training"]) == (None, None, None)


def test_files_and_weights_reach_every_trial_in_the_studys_directions(tmp_path: Path, pairs: str) -> None:
    more = alma(tmp_path / "train.de-en.json.gz", ("Ein Vogel.", "A bird."))
    study = prepare(spec(tmp_path, TrainingSource(pairs, 2.5), more, training_gpus=2), QUIET)
    plan = study.plan(gpus=0)
    assert plan.training is not None
    assert [(file.path, file.weight) for file in plan.training.files] == [(pairs, 2.5), (more, 1.0)]
    assert plan.training.langs == ("en-de",)
    assert plan.training_processes == 2


def test_both_directions_are_trained_where_both_are_measured(tmp_path: Path) -> None:
    file = alma(tmp_path / "train.de-en.json.gz", ("Ein Vogel.", "A bird."))
    assert found(tmp_path, file, dev=BOTH).data.langs == ("de-en", "en-de")
    assert found(tmp_path, file, dev=DEV).data.langs == ("en-de",)


def test_directions_without_pairs_are_left_out_and_said(tmp_path: Path, pairs: str) -> None:
    data = {"dev": DEV, "test": dataset([segment("Hello.", "Ahoj.", langs="en-cs")])}
    training = found(tmp_path, pairs, **data)
    assert (training.data.langs, training.missing) == (("en-de",), ("en-cs",))
    assert training.told() == [
        "trained on 1 file of pairs, in the directions en-de",
        "the training data has no pairs for en-cs: these directions are not trained",
    ]


def test_what_is_trained_on_is_said_before_the_search(tmp_path: Path, pairs: str) -> None:
    said = io.StringIO()
    prepare(spec(tmp_path, pairs), Console(file=said))
    assert "trained on 1 file of pairs, in the directions en-de" in said.getvalue()


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize(
    "row",
    [("A dog runs.", "Irgendetwas.", "en-de"), ("Irgendetwas.", "A dog runs.", "de-en")],
    ids=["same direction", "other direction"],
)
def test_a_source_that_is_measured_on_is_refused_with_its_line(
    tmp_path: Path, split: str, row: tuple[str, str, str]
) -> None:
    shared = write(tmp_path / "pairs.jsonl", ("New one.", "Neu.", "en-de"), row)
    with pytest.raises(UserError, match=rf"pairs\.jsonl, line 2: .*{split} data.*A dog runs\..*skip.bad.rows"):
        found(tmp_path, shared, **{split: DEV})


def test_such_lines_may_be_left_out_instead(tmp_path: Path) -> None:
    shared = write(tmp_path / "pairs.jsonl", ("New one.", "Neu.", "en-de"), ("A dog runs.", "X.", "en-de"))
    training = read_training(spec(tmp_path, shared, skip_bad_rows=True), {"dev": DEV})
    assert training is not None
    assert len(training.data.measured) == 1
    assert "left out of the training data: 1 text that the study measures on" in training.told()


def test_pairs_of_other_languages_only_are_refused_with_the_way_out(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", ("Un chat dort.", "A cat sleeps.", "fr-en"))
    with pytest.raises(StudyError, match=r"has no pair in the directions of the study's data \(en-de\); .* --training"):
        found(tmp_path, file)


def test_empty_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty\.jsonl.*the file is empty"):
        found(tmp_path, str(tmp_path / "empty.jsonl"))
    with pytest.raises(DataError, match=r"none\.jsonl.*there is no such file"):
        found(tmp_path, str(tmp_path / "none.jsonl"))


def test_a_file_named_twice_is_refused(tmp_path: Path, pairs: str) -> None:
    with pytest.raises(StudyError, match="are the same training pairs; name one of them"):
        found(tmp_path, pairs, pairs)


def test_training_data_is_checked_before_anything_starts(
    tmp_path: Path, pairs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    write(Path(pairs), ("A dog runs.", "Ein Hund rennt.", "en-de"))
    assert cli.main(["search", "--data", spec(tmp_path).data, "--out", str(out), "--training", pairs]) == 2
    assert "line 1" in capsys.readouterr().err
    assert cli.main(["search", "--data", spec(tmp_path).data, "--out", str(out), "--space", "student"]) == 2
    assert "the space student trains, and the study names no training data" in capsys.readouterr().err
    assert not out.exists()


def test_a_new_study_refuses_a_training_towards_the_model_itself_and_an_older_one_is_still_read(
    tmp_path: Path, pairs: str
) -> None:
    idle = spec(tmp_path, pairs, anchors=((Finetune(),),))
    with pytest.raises(CandidateError, match=r"nothing to learn\. Use loss: references or sequence"):
        run_search(idle, QUIET)
    assert not idle.folder.exists()
    create_ledger(idle.folder, header(prepare(idle.absolute(), QUIET)))
    assert reopen(idle.folder)[1].anchors == idle.anchors


def test_a_study_goes_on_with_the_training_data_it_began_with(tmp_path: Path, pairs: str) -> None:
    study = prepare(spec(tmp_path, pairs), QUIET)
    assert study.training is not None
    began = json.loads(json.dumps(header(study)))
    refuse_changed_training(began, study.training, tmp_path)
    heavier = found(tmp_path, TrainingSource(pairs, 2.0), write(tmp_path / "b", ("One.", "Eins.", "en-de")))
    for other in (heavier, replace(study.training, configs={"s": "0" * 16}), None):
        with pytest.raises(StudyError, match=r"training data of the study in .* has changed since it began"):
            refuse_changed_training(began, other, tmp_path)
    older = {key: value for key, value in began.items() if key != "training"}
    refuse_changed_training(older, None, tmp_path)


def test_resume_reads_and_checks_the_training_data_again(tmp_path: Path, pairs: str) -> None:
    study = prepare(spec(tmp_path, pairs).absolute(), QUIET)
    create_ledger(study.spec.folder, header(study))
    write(Path(pairs), ("A dog runs.", "Ein Hund rennt.", "en-de"))
    with pytest.raises(UserError, match="line 1"):
        resume_search(study.spec.folder, QUIET)
    write(Path(pairs), ("A bird sings.", "Ein Vogel singt.", "en-de"))
    with pytest.raises(StudyError, match=r"training data of the study in .* has changed"):
        resume_search(study.spec.folder, QUIET)


def test_a_students_config_is_part_of_what_a_study_began_with(tmp_path: Path, pairs: str) -> None:
    config = json.loads((Path(cli.__file__).parents[1] / "models" / "captions" / "config.json").read_text())
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config | {"num_hidden_layers": 2}))
    anchors = ((Distill(config=str(file)),),)
    one = prepare(spec(tmp_path, pairs, anchors=anchors), QUIET).training
    file.write_text(json.dumps(config | {"num_hidden_layers": 1}))
    other = prepare(spec(tmp_path, pairs, anchors=anchors), QUIET).training
    assert one is not None and other is not None
    assert one.identity() != other.identity()
    assert one.data == other.data


def plan(training: TrainingData | None, tmp_path: Path) -> EvaluationPlan:
    return EvaluationPlan({}, None, ("chrf",), spec(tmp_path).decoding, tmp_path / "store", training=training)


def test_training_data_is_part_of_what_names_an_artefact_only_from_the_first_trained_step_on(
    tmp_path: Path, pairs: str
) -> None:
    one = found(tmp_path, pairs).data
    other = found(tmp_path, write(tmp_path / "b", ("One.", "Eins.", "en-de"))).data
    layers, four = RemoveLayers(count=1), GPTQ(bits=4)
    heal, scales = Recover(merged=True), Recover(adapter="scales")

    def keys(*steps: Any) -> set[str]:
        candidate = Candidate(BASE, steps)
        return {artefact_key(candidate, PROMPTS["alma"], plan(data, tmp_path)) for data in (None, one, other)}

    assert len(keys(layers)) == len(keys(layers, four)) == 1
    # Its tokens are counted in the training data too.
    assert len(keys(TrimVocabulary(tokens=100))) == 3
    assert len(keys(layers, heal)) == len(keys(layers, heal, four)) == len(keys(four, scales)) == 3


def test_a_teachers_examples_are_part_of_what_names_an_artefact_where_they_are_shown(tmp_path: Path) -> None:
    def keys(prompt: str, *steps: Any) -> int:
        candidate = Candidate(BASE, steps)
        plans = [
            replace(plan(None, tmp_path), calibration=dataset([segment(text, text)])) for text in ("A dog.", "A cat.")
        ]
        return len({artefact_key(candidate, PROMPTS[prompt], one) for one in plans})

    rounded = RTN(bits=4)
    for translated in (Finetune(loss="sequence"), Finetune(beams=4, reference_share=0.5)):
        assert keys("few-shot", rounded, translated) == keys("few-shot", translated, rounded) == 2
        assert keys("alma", rounded, translated) == 1
    assert keys("few-shot", rounded, Finetune(loss="references")) == 1


def test_a_students_config_is_part_of_what_names_its_artefact(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    keys = set()
    for layers in (1, 2):
        file.write_text(json.dumps({"num_hidden_layers": layers}))
        candidate = Candidate(BASE, (Distill(config=str(file)), GPTQ(bits=4)))
        keys.add(artefact_key(candidate, PROMPTS["alma"], plan(None, tmp_path)))
    assert len(keys) == 2


def test_what_the_model_wrote_is_read_once_it_is_there(tmp_path: Path, pairs: str) -> None:
    asked = spec(tmp_path, pairs, synthetic_pairs=2000)
    before = read_training(asked, {"dev": DEV})
    assert before is not None and before.to_write == 2000
    assert (
        before.told()[0] == "trained on 1 file of pairs and 2,000 pairs that the model writes, in the directions en-de"
    )
    synthetic_file(asked).parent.mkdir()
    file = write(synthetic_file(asked), ("A bird sings.", "Ein Vogel singt.", "en-de"))
    after = read_training(asked, {"dev": DEV})
    assert after is not None and after.to_write == 0
    assert [source.path for source in after.data.files] == [pairs, file]
    assert after.told()[0] == "trained on 2 files of pairs, in the directions en-de"
    assert after.identity() != before.identity()
    # A study that asks for none does not read what another left there.
    without = read_training(spec(tmp_path, pairs), {"dev": DEV})
    assert without is not None and without.identity() == before.identity()


def test_a_model_writes_pairs_beside_those_of_people_alone(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="synthetic_pairs are trained on beside pairs of people"):
        spec(tmp_path, synthetic_pairs=2000)
