"""COMET models are found without torch, and what is missing is named together with its place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from search_spaces.errors import StudyError
from workers.comet.files import comet_checkpoint, comet_files, refuse_unreachable
from workers.comet.scores import comet_signature


def model_folder(folder: Path, **hparams: object) -> Path:
    """A folder with everything but real weights, which are not read here."""
    for part in ("checkpoints", "encoder"):
        (folder / part).mkdir(parents=True)
    (folder / "checkpoints" / "model.ckpt").write_bytes(b"weights")
    (folder / "encoder" / "config.json").write_text("{}")
    given = {"class_identifier": "regression_metric", "pretrained_model": "xlm-roberta-large"} | hparams
    (folder / "hparams.yaml").write_text(yaml.safe_dump(given))
    return folder


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub out of reach, its cache empty; returns the folder for models copied by hand."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MTPARETO_COMET", str(tmp_path / "by-hand"))
    return tmp_path / "by-hand"


def test_no_hub_in_reach_names_the_files_to_put_where(no_hub: Path) -> None:
    with pytest.raises(StudyError) as refused:
        refuse_unreachable("comet")
    place = no_hub / "Unbabel" / "wmt22-comet-da"
    for named in (f"{place}/hparams.yaml", f"{place}/checkpoints/model.ckpt", "tokenizer.json", "config.json",
                  f"of xlm-roberta-large into {place}/encoder/", "MTPARETO_COMET"):  # fmt: skip
        assert named in str(refused.value)
    with pytest.raises(StudyError, match=r"of microsoft/infoxlm-large into .*wmt22-cometkiwi-da/encoder/"):
        refuse_unreachable("cometkiwi")


def test_a_missing_encoder_is_named_too(no_hub: Path) -> None:
    folder = model_folder(no_hub / "Unbabel" / "wmt22-comet-da")
    (folder / "encoder" / "config.json").unlink()
    with pytest.raises(StudyError, match=rf"xlm-roberta-large, which the COMET model .* into {folder}/encoder/"):
        refuse_unreachable("comet")


def test_models_copied_by_hand_are_found(no_hub: Path) -> None:
    folder = model_folder(no_hub / "Unbabel" / "wmt22-comet-da")
    assert comet_checkpoint("comet") == folder / "checkpoints" / "model.ckpt"
    digest = hashlib.sha256(b"weights").hexdigest()[:16]
    expected = f"comet:2.2.7|model:Unbabel/wmt22-comet-da|sha256:{digest}|prec:fp32|refs:first"
    assert comet_signature("comet") == expected


def test_the_hubs_cache_is_enough_when_it_is_whole(no_hub: Path) -> None:
    def cached(repository: str, files: list[str]) -> Path:
        root = no_hub.parent / "hub" / f"models--{repository.replace('/', '--')}"
        for name in files:
            file = root / "snapshots" / "0" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("class_identifier: regression_metric\npretrained_model: xlm-roberta-large\n")
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / "main").write_text("0")
        return root / "snapshots" / "0"

    cached("Unbabel/wmt22-comet-da", ["hparams.yaml"])
    encoder = cached("xlm-roberta-large", ["config.json", "sentencepiece.bpe.model"])
    with pytest.raises(StudyError, match="has a part of it only"):
        comet_files("comet")
    model = cached("Unbabel/wmt22-comet-da", ["checkpoints/model.ckpt"])
    files = comet_files("comet")
    assert (files.checkpoint, files.encoder) == (model / "checkpoints" / "model.ckpt", encoder)


def test_a_folder_or_its_checkpoint_names_a_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    for named in (folder, folder / "checkpoints" / "model.ckpt"):
        files = comet_files(str(named))
        assert (files.name, files.checkpoint) == ("mine", folder / "checkpoints" / "model.ckpt")


@pytest.mark.parametrize(
    ("hparams", "needed"),
    [
        ({}, True),
        ({"class_identifier": "referenceless_regression_metric"}, False),
        ({"class_identifier": "unified_metric", "input_segments": ["mt", "src"]}, False),
        ({"class_identifier": "unified_metric", "input_segments": ["mt", "src", "ref"]}, True),
    ],
)
def test_whether_a_reference_is_needed_is_read_from_the_settings(
    tmp_path: Path, hparams: dict[str, object], needed: bool
) -> None:
    folder = model_folder(tmp_path / "model", **hparams)
    assert comet_files(str(folder)).needs_reference is needed
    assert comet_signature(str(folder)).endswith("refs:first" if needed else "refs:none")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="neither a folder nor a checkpoint nor a hub id"):
        comet_files("comte")
    with pytest.raises(StudyError, match="neither a folder"):
        comet_files(str(tmp_path / "nowhere"))
    with pytest.raises(StudyError, match=r"hparams\.yaml is not there"):
        comet_files(str(tmp_path))
    ranking = model_folder(tmp_path / "ranking", class_identifier="ranking_metric")
    with pytest.raises(StudyError, match="class_identifier 'ranking_metric'"):
        comet_files(str(ranking))
