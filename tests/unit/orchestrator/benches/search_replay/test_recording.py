"""A table's recording: the study that measures every candidate, and the table of its run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from orchestrator.benches.search_replay.recording import (
    DESIGNS,
    REAL,
    SHIPPED,
    Design,
    every_option,
    main,
    recording_study,
    steps_of,
    table_of,
    warm_up,
)
from orchestrator.benches.search_replay.table import load
from orchestrator.ledger.records import LedgerWriter, create_ledger
from orchestrator.study.spec import spec_from_mapping
from search_spaces.errors import StudyError
from search_spaces.methods.pruners import RemoveLayers, TrimVocabulary
from search_spaces.methods.quantizers import GPTQ, RTN
from search_spaces.methods.registry import Step, step_to_json
from search_spaces.outcome import Failure, Outcome
from tests.support.examples import measurement, trial

SMALL = Design({"layers": (0, 1), "quantizer": ("none", "rtn8", "gptq4")}, "greedy", (), 2, Path("small.npz"))
ONE_LAYER = RemoveLayers(count=1, by="greedy")
RUN = {"model": "models/captions", "data": "data/subset.jsonl", "out": "runs/x", "store": "runs/x-store"}


def took(steps: tuple[Step, ...]) -> float:
    return 10.0 * len(steps)


def write_recorded(folder: Path, leave_out: tuple[Step, ...] = ()) -> tuple[Path, Path]:
    """A run of the small table and of a candidate that is no row; one layer fewer with RTN fails. Its store has every
    artefact but the failed one's and `leave_out`'s."""
    run, store = folder / "run", folder / "run-store"
    header: dict[str, Any] = {"spec": {}, "base": {"name": "captions", "revision": "1"}, "data": {}, "conditions": {}}
    create_ledger(run, header)  # type: ignore[arg-type]
    writer = LedgerWriter(str(run))
    for number, steps in enumerate([(), (RTN(bits=3),), *(steps_of(options, "greedy") for _, options in rows()[1:])]):
        outcome: Outcome = replace(
            measurement({"en-de": 60.0 - number, "de-en": 50.0 - number}, 1000 - number),
            seconds={"compress": 99.0, "load": 1.0, "divergence": 2.0, "translate": 3.0, "score": 4.0},
            divergence={"en-de": 0.1 * number, "de-en": 0.2 * number} if steps else {},
            conditions={"device": "cpu"},
        )
        failed = steps == (ONE_LAYER, RTN(bits=8))
        writer.append(trial(Failure("error", "compress", "too large") if failed else outcome, steps, number), [])
        if steps and steps != leave_out and not failed:
            artefact = store / str(number)
            artefact.mkdir(parents=True)
            record = {"about": {"steps": [step_to_json(step) for step in steps]}, "seconds": took(steps)}
            (artefact / "artefact.json").write_text(json.dumps(record), encoding="utf-8")
    (store / "statistics").mkdir()
    (store / "statistics" / "artefact.json").write_text(json.dumps({"about": {}, "seconds": 5.0}), encoding="utf-8")
    writer.end(True)
    return run, store


def rows() -> list[Any]:
    return list(every_option(SMALL.axes))


def test_options_are_steps_in_the_order_of_axes() -> None:
    options = {"vocabulary": 6016, "layers": 2, "heads": 0, "channels": 0.0, "quantizer": "gptq3", "embeddings": 16}
    assert steps_of(options, "greedy") == (
        TrimVocabulary(tokens=6016),
        RemoveLayers(count=2, by="greedy"),
        GPTQ(bits=3),
    )
    nothing = {name: values[0] for name, values in SHIPPED.axes.items()}
    assert steps_of(nothing, "greedy") == steps_of({}, "greedy") == ()
    every = [steps_of(options, "greedy") for _, options in every_option(SHIPPED.axes)]
    assert len(set(every)) == len(every) == 648


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_nothing_of_a_row_is_built_while_workers_warm_up(design: Design) -> None:
    first = warm_up(design)
    assert first == warm_up(design)
    assert len(set(first)) == design.warm_up
    ways = {steps[:length] for steps in first for length in range(1, len(steps) + 1)}
    every = {steps_of(options, design.layers_by) for _, options in every_option(design.axes)}
    assert not ways & every
    assert {type(step) for steps in first for step in steps} <= {type(step) for steps in every for step in steps}


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_anchors_are_candidates_of_their_table(design: Design) -> None:
    rows = [options for _, options in every_option(design.axes)]
    for anchor in design.anchors:
        assert steps_of(anchor, design.layers_by)
        assert any(anchor.items() <= options.items() for options in rows)


def test_the_study_measures_every_candidate_once_after_the_warm_up() -> None:
    study = recording_study(SHIPPED, RUN)
    assert study["trials"] == 1 + SHIPPED.warm_up + 647 == 1 + len(study["anchors"])
    assert (study["rungs"], study["speed"], study["store"]) == ([], False, "runs/x-store")
    spec = spec_from_mapping(study)
    assert spec.trials == 688


def test_a_run_becomes_a_table(tmp_path: Path) -> None:
    run, store = write_recorded(tmp_path)
    table = table_of(run, store, SMALL)
    assert table.axes == SMALL.axes
    assert table.options.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert table.pairs == ("en-de", "de-en")
    assert table.pair_quality[[0, 1]].tolist() == [[60.0, 50.0], [58.0, 48.0]]
    assert table.quality[[0, 1, 5]].tolist() == [55.0, 53.0, 49.0]
    assert table.bytes.tolist() == [1000, 998, 997, 996, 1000, 994]
    np.testing.assert_allclose(table.kl[1], [0.2, 0.4])
    assert np.isnan(table.kl[0]).all()
    assert table.stage_seconds[5].tolist() == [1.0, 2.0, 3.0, 4.0]
    # What failed is a row without quality; its artefact, which is not there, took nothing.
    assert table.failed(4) and table.stage_seconds[4].tolist() == [0.0] * 4
    assert table.prefixes == ((), (0,), (1,), (2,), (2, 3), (2, 4))
    assert table.artefact_seconds.tolist() == [10.0, 10.0, 10.0, 0.0, 20.0]
    assert table.about["layers_by"] == "greedy" and table.about["conditions"] == {"device": "cpu"}


def test_a_list_of_artefacts_does_for_a_store(tmp_path: Path) -> None:
    run, store = write_recorded(tmp_path)
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in store.glob("*/artefact.json")]
    listed = [{"steps": one["about"].get("steps"), "seconds": one["seconds"]} for one in manifests]
    (tmp_path / "store.json").write_text(json.dumps(listed), encoding="utf-8")
    told = table_of(run, tmp_path / "store.json", SMALL)
    assert told.artefact_seconds.tolist() == table_of(run, store, SMALL).artefact_seconds.tolist()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    run, store = write_recorded(tmp_path, leave_out=(ONE_LAYER,))
    with pytest.raises(StudyError, match=r"holds no artefact of .*remove_layers"):
        table_of(run, store, SMALL)
    other = replace(SMALL, axes={"layers": (2, 3)})
    with pytest.raises(StudyError, match="check the run and the table's name"):
        table_of(run, store, other)


def test_the_command_prints_a_study_and_writes_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["real", "--model", "qwen", "--data", "dev.jsonl", "--calibration", "c.jsonl", "--out", "runs/r/"]) == 0
    study = yaml.safe_load(capsys.readouterr().out)
    assert (study["calibration"], study["store"], study["trials"]) == ("c.jsonl", "runs/r-store", 1 + REAL.warm_up + 71)
    assert [len(anchor) for anchor in study["anchors"][REAL.warm_up : REAL.warm_up + 3]] == [1, 1, 1]
    monkeypatch.setattr("orchestrator.benches.search_replay.recording.DESIGNS", {"small": SMALL})
    run, store = write_recorded(tmp_path)
    asked = ["table", "small", "--run", str(run), "--store", str(store), "--to", str(tmp_path / "small.npz")]
    assert main(asked) == 0
    assert load(tmp_path / "small.npz").rows == 6
    assert main([*asked[:3], str(tmp_path / "none"), *asked[4:]]) == 2
    assert "is not a run of this project" in capsys.readouterr().err
