"""Studies as people write them: read whole, refused with the key, the value and the rule."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.study.flags import add_study_flags, key_help
from orchestrator.study.spec import StudySpec, know_languages, spec_from_mapping
from orchestrator.study.values import TrainingSource
from orchestrator.study.yaml_file import read_study
from search_spaces.errors import CandidateError, StudyError, UserError
from search_spaces.methods.pruners import RemoveLayers, Wanda
from search_spaces.methods.quantizers import GPTQ, RTN, MixedWidths, QuantizeEmbeddings
from search_spaces.methods.registry import METHODS
from search_spaces.methods.trainers import Distill, Finetune, Recover
from search_spaces.predicted_size import predicted_bytes
from tests.support.paths import ROOT
from tests.support.studies import FULL, LEAST, WRONG
from workers.checkpoints.model_files import read_checkpoint


def test_a_study_needs_no_more_than_data_and_out() -> None:
    spec = spec_from_mapping(LEAST)
    assert (spec.space, spec.trials, spec.seed, spec.keep) == ("joint", 12, 0, "frontier")
    assert (spec.decoding.max_new_tokens, spec.decoding.batch_size, spec.decoding.prompt) == (256, 64, None)
    assert (spec.calibration, spec.calibration_tokens, spec.calibration_text) == (None, 65_536, None)
    assert not spec.trust_remote_code
    assert not spec.skip_bad_rows
    assert (spec.quality, spec.rungs, spec.comet_model) == ("chrf", (64, 256, 1024), None)
    assert spec.floor == 0.5
    assert (spec.training, spec.training_gpus) == ((), 1)
    assert spec.store_folder == Path("runs/x/store")
    assert spec.mlflow_uri == "sqlite:///runs/mlflow.db"


@pytest.mark.parametrize("spec", [FULL, spec_from_mapping(LEAST)])
def test_a_study_survives_yaml(tmp_path: Path, spec: StudySpec) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(spec.to_json()), encoding="utf-8")
    assert spec_from_mapping(read_study(file)) == spec


def test_the_keys_of_a_study_are_given_by_name() -> None:
    with pytest.raises(TypeError, match="by name"):
        StudySpec("dev.jsonl")  # type: ignore[misc]
    with pytest.raises(StudyError, match="a study needs `data`"):
        StudySpec(out="runs/x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("20GB", 20 * 10**9),
        ("1.5 tb", 15 * 10**11),
        ("500MB", 5 * 10**8),
        (12345, 12345),
        ("12345", 12345),
        (None, None),
    ],
)
def test_a_store_has_a_limit_of_bytes(said: object, size: int | None) -> None:
    spec = spec_from_mapping(LEAST | {"store_limit": said})
    assert spec.store_limit == size
    assert spec_from_mapping(spec.to_json()).store_limit == size


@pytest.mark.parametrize("said", ["", "much", "20 GiB", 0, -5, True, 2.5, [1], "1e9"])
def test_a_limit_that_is_no_size_is_refused(said: object) -> None:
    with pytest.raises(StudyError, match=r"store_limit is .*; it must be a size such as 20GB"):
        spec_from_mapping(LEAST | {"store_limit": said})


def test_a_shared_store_has_no_limit() -> None:
    with pytest.raises(StudyError, match="leave out one of --store and --store-limit"):
        spec_from_mapping(LEAST | {"store_limit": "1GB", "store": "/shared"})


def test_languages_are_named_in_a_mapping_or_by_flags() -> None:
    named = {"qaa": "Klingon", "no": "Norsk"}
    assert spec_from_mapping(LEAST | {"languages": named}).languages == named
    assert spec_from_mapping(LEAST | yaml.safe_load("languages: {qaa: Klingon, no: Norsk}")).languages == named
    assert spec_from_mapping(LEAST | {"languages": ["qaa=Klingon", "no = Norsk"]}).languages == named
    for wrong in ("qaa", ["qaa"], [{"qaa": "Klingon"}], {"qaa": 1}):
        with pytest.raises(
            StudyError, match=r"languages is .*; it must be codes with their names, such as \{xx: Name\}"
        ):
            spec_from_mapping(LEAST | {"languages": wrong})
    with pytest.raises(StudyError, match="languages: the language code 'qaa' has an empty name"):
        know_languages({"qaa": " "})


def test_anchors_are_read_as_steps() -> None:
    text = "{out: o, data: d, anchors: [[{method: remove_layers, count: 2}, {method: rtn, bits: 4}], []]}"
    spec = spec_from_mapping(yaml.safe_load(text))
    assert spec.anchors == ((RemoveLayers(count=2), RTN(bits=4, group_size=64)), ())


def test_anchors_take_every_method() -> None:
    text = """
    out: o
    data: d
    anchors:
      - [{method: remove_layers, count: 1, by: greedy}, {method: wanda, pattern: "2:4"}, {method: gptq, bits: 4}]
      - [{method: mixed, bits: 3.25, embeddings: true}]
      - [{method: w8a8}, {method: embeddings, bits: 8}]
    """
    anchors = spec_from_mapping(yaml.safe_load(text)).anchors
    assert anchors[0] == (RemoveLayers(count=1, by="greedy"), Wanda(pattern="2:4"), GPTQ(bits=4))
    assert anchors[1] == (MixedWidths(bits=3.25, embeddings=True),)
    assert anchors[2] == (METHODS["w8a8"](), QuantizeEmbeddings(bits=8))


def test_a_candidate_that_prunes_recovers_quantizes_and_recovers_is_spelt_in_a_study() -> None:
    text = """
    out: o
    data: d
    training: [alma.jsonl, {file: captions.jsonl, weight: 2}]
    anchors:
      - - {method: remove_layers, count: 1}
        - {recipe: alma-lora, merged: true, tokens: 500000}
        - {method: gptq, bits: 3}
        - {recipe: heal, rate: 0.001}
    """
    spec = spec_from_mapping(yaml.safe_load(text))
    lora, heal = spec.anchors[0][1], spec.anchors[0][3]
    assert isinstance(lora, Recover)
    assert (lora.adapter, lora.merged, lora.tokens, lora.batch) == ("lora", True, 500_000, 256)
    assert heal == Recover(adapter="scales", rate=0.001)
    assert spec.training == (TrainingSource("alma.jsonl", 1.0), TrainingSource("captions.jsonl", 2))
    checkpoint = read_checkpoint(ROOT / "models" / "captions")
    assert predicted_bytes(checkpoint, spec.anchors[0]) == predicted_bytes(
        checkpoint, (RemoveLayers(count=1), GPTQ(bits=3))
    )


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ([7], "training is 7; it must be a file, or a list of files"),
        ([{"weight": 2}], "it must be a file, or a list of files"),
        ([{"file": "a", "wieght": 2}], "it must be a file, or a list of files"),
        ([{"file": 7}], "training.file is 7; it must be a file's name"),
        ([""], "training.file is ''; it must be a file's name"),
        ([{"file": "a", "weight": 0}], "training: the weight of a is 0; it must be a number above 0"),
        ([{"file": "a", "weight": float("inf")}], "training: the weight of a is inf; it must be a number above 0"),
        ([{"file": "a", "weight": float("nan")}], "training: the weight of a is nan; it must be a number above 0"),
        ([{"file": "a", "weight": True}], "training: the weight of a is True; it must be a number above 0"),
        ([{"file": "a", "weight": "2"}], "training: the weight of a is '2'; it must be a number above 0"),
    ],
)
def test_training_files_that_cannot_be_meant_are_refused(training: list[Any], reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        spec_from_mapping({**LEAST, "training": training})


def test_what_trains_is_refused_without_training_data_with_the_way_out() -> None:
    way_out = r"trains, and the study names no training data; .* --training FILE"
    with pytest.raises(StudyError, match=f"the space student {way_out}"):
        spec_from_mapping({**LEAST, "space": "student"})
    with pytest.raises(StudyError, match=rf"finetune\(tokens=1000000, loss=forward_kl\) {way_out}"):
        spec_from_mapping({**LEAST, "anchors": [[{"method": "finetune"}]]})
    spec = spec_from_mapping({**LEAST, "space": "student", "training": ["a"], "anchors": [[{"method": "finetune"}]]})
    assert spec.anchors == ((Finetune(),),)


def test_the_flag_for_training_data_may_be_given_again() -> None:
    parser = argparse.ArgumentParser()
    add_study_flags(parser)
    options = parser.parse_args(["--training", "a.jsonl", "--training", "b.jsonl", "--training-gpus", "2"])
    spec = spec_from_mapping({**LEAST, "training": options.training, "training_gpus": options.training_gpus})
    assert spec.training == (TrainingSource("a.jsonl"), TrainingSource("b.jsonl"))
    assert spec.training_gpus == 2


def test_the_flags_stand_in_groups_and_every_one_is_a_key_of_a_study() -> None:
    parser = argparse.ArgumentParser()
    add_study_flags(parser)
    text = parser.format_help()
    titles = [
        "what is compressed",
        "data",
        "calibration and training",
        "translation",
        "quality",
        "resources",
        "results",
    ]
    places = [text.index(f"\n{title}:\n") for title in titles]
    assert places == sorted(places)
    assert len(text.split("\n\n")[0]) < 200, "the usage is short"
    keys = {action.dest for action in parser._actions} - {"help", "study"}
    assert keys == {field.name for field in fields(StudySpec)} - {"anchors", "baseline", "start"}


def test_the_help_of_a_flag_is_what_its_key_is_with_its_names_and_its_default() -> None:
    assert key_help("trials") == "candidates to measure, the baseline included (default: 12)"
    assert key_help("quality") == "the metric of the frontier: chrf, comet (default: chrf)"
    assert key_help("languages") == "what a language code stands for, where it is not known; may be given again"
    assert key_help("training_gpus") == "GPUs that train one candidate together (default: 1)"
    assert key_help("rungs").endswith("(default: 64,256,1024)")
    assert key_help("speed") == "do not time the frontier's points when the search is over"


@pytest.mark.parametrize("missing", ["out", "data"])
def test_what_a_study_cannot_do_without_is_asked_for(missing: str) -> None:
    record = {key: value for key, value in LEAST.items() if key != missing}
    for given in (record, record | {missing: None}, record | {missing: ""}):
        with pytest.raises(StudyError, match=f"a study needs `{missing}`; .* --{missing}"):
            spec_from_mapping(given)


@pytest.mark.parametrize("key", ["trails", "Trials", "bits", 3])
def test_an_unknown_key_is_refused_with_those_there_are(key: object) -> None:
    with pytest.raises(StudyError, match=f"a study has no key '{key}'; it has address, anchors, .*trials"):
        spec_from_mapping({**LEAST, key: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(("name", "value", "rule"), WRONG)
def test_a_wrong_value_is_refused_with_its_key_and_the_rule(name: str, value: object, rule: str) -> None:
    with pytest.raises(StudyError) as caught:
        spec_from_mapping({**LEAST, name: value})
    assert str(caught.value) == f"{name} is {value!r}; it must be {rule}"


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([{"method": "quip"}], "no method is called 'quip'"),
        ([{"method": "gptq", "bits": 4}, {"method": "wanda"}], "can't be made sparse. Put the sparsity first"),
        (["rtn"], "a step is an object"),
        ([{"method": "rtn", "bits": 4}, {"method": "bitsandbytes", "format": "nf4"}], "can be quantized once"),
    ],
)
def test_an_anchor_that_makes_no_sense_is_refused_before_anything_starts(steps: list[Any], reason: str) -> None:
    with pytest.raises(CandidateError, match=reason):
        spec_from_mapping({**LEAST, "anchors": [steps]})


def test_the_largest_seed_is_one_that_the_sampler_takes() -> None:
    from optuna.samplers import TPESampler

    seed = spec_from_mapping({**LEAST, "seed": 2**32 - 1}).seed
    TPESampler(seed=seed).reseed_rng()


def test_no_rungs_is_no_racing() -> None:
    assert spec_from_mapping({**LEAST, "rungs": []}).rungs == ()


def test_a_floor_of_0_is_none() -> None:
    assert spec_from_mapping({**LEAST, "floor": 0}).floor == 0


def test_absolute_paths_mean_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "comet"):
        (tmp_path / "models" / name).mkdir(parents=True)
    spec = replace(FULL, model="models/mine", store=None).absolute()
    assert spec.out == str(tmp_path / "runs/x")
    assert spec.data == str(tmp_path / "dev.txt")
    assert spec.test == str(tmp_path / "test.jsonl")
    assert spec.references == str(tmp_path / "dev.ref")
    assert spec.calibration == str(tmp_path / "calibration.jsonl")
    assert spec.calibration_text == str(tmp_path / "news.txt")
    assert [source.file for source in spec.training] == [str(tmp_path / "pairs.jsonl"), str(tmp_path / "more.jsonl.gz")]
    assert [source.weight for source in spec.training] == [1.0, 0.5]
    assert spec.anchors[2] == (Distill(config=str(tmp_path / "s")),)
    assert spec.model == str(tmp_path / "models/mine")
    assert spec.comet_model == str(tmp_path / "models/comet")
    assert spec.store is None
    assert spec.store_folder == tmp_path / "runs/x/store"
    monkeypatch.chdir("/")
    assert spec.absolute() == spec


def test_a_hub_id_is_not_taken_for_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = replace(FULL, comet_model="Unbabel/wmt22-comet-da").absolute()
    assert (spec.model, spec.comet_model) == ("haoranxu/ALMA-7B", "Unbabel/wmt22-comet-da")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"out: [", "is not YAML"),
        (b"- out\n- data\n", "holds list, not a mapping"),
        (b"", "is empty; a study has at least"),
        (b"\xff\xfe out", "can't be read"),
        (b"out: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "study.yaml").write_bytes(content)
    with pytest.raises(StudyError, match=reason):
        read_study(tmp_path / "study.yaml")


def test_a_missing_study_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml can't be read"):
        read_study(tmp_path / "none.yaml")


def shipped_studies() -> list[Path]:
    """Every YAML file of the repository that has the keys of a study."""
    left_out = {"runs", "mlruns", "build"}
    files: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in left_out]
        files += [Path(folder, name) for name in names if name.endswith((".yaml", ".yml"))]
    return sorted(file for file in files if {"data", "out"} & set(yaml.safe_load(file.read_text("utf-8")) or ()))


def test_the_demo_is_among_the_shipped_studies() -> None:
    assert ROOT / "data" / "demo.yaml" in shipped_studies()


@pytest.mark.parametrize("file", shipped_studies(), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_shipped_study_can_be_run(file: Path) -> None:
    spec = spec_from_mapping({"out": "runs/x", **read_study(file)})
    if file.parent == ROOT / "data":
        assert all((ROOT / name).is_file() for name in (spec.data, spec.test) if name)
