"""What a person gets for bad input: one clear line, exit code 2, and nothing written."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import main as one
from orchestrator import cli
from orchestrator.finish.run_folder import LOCK
from orchestrator.ledger.records import create_ledger
from orchestrator.study.spec import spec_from_mapping
from tests.support.paths import ROOT
from workers.evaluation.attempt import unless_machine
from workers.failures.table import MACHINE_EXIT, MachineError, MachineFault
from workers.runtime.file_locks import hold

GOOD = {"src": "A dog runs.", "ref": "Ein Hund rennt.", "langs": "en-de"}

BAD_FILES: dict[str, tuple[bytes, str]] = {
    "no-json": (json.dumps(GOOD).encode() + b"\n{not json\n", "line 2"),
    "missing-field": (json.dumps({"src": "A dog.", "langs": "en-de"}).encode() + b"\n", "ref"),
    "unknown-pair": (json.dumps(GOOD | {"langs": "en-xq"}).encode() + b"\n", "en-xq"),
    "empty-source": (json.dumps(GOOD | {"src": " "}).encode() + b"\n", "src"),
    "empty-file": (b"", "empty"),
    "bad-utf8": (json.dumps(GOOD).encode() + b"\n\xff\xfe\n", "UTF-8"),
}


@pytest.fixture
def good_file(tmp_path: Path) -> str:
    path = tmp_path / "good.jsonl"
    path.write_text(json.dumps(GOOD) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("command", ["main.py", "mtpareto search"])
def test_a_bad_data_file_is_named_with_what_is_wrong_and_nothing_is_written(
    name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, said = BAD_FILES[name]
    path, out = tmp_path / f"{name}.jsonl", tmp_path / "out"
    path.write_bytes(content)
    if command == "main.py":
        code = one.main(["--data", str(path), "--outdir", str(out)])
    else:
        code = cli.main(["search", "--data", str(path), "--out", str(out)])
    message = capsys.readouterr().err
    assert code == 2
    assert str(path) in message and said in message and message.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--eval_metrics", "meteor"], "there is no metric 'meteor'; there are chrf, chrf++, bleu"),
        (["--bins", "60-30"], "60-30"),
        (["--max_new_tokens", "0"], "max_new_tokens is 0"),
        (["--prompt", "polite"], "no prompt family 'polite'"),
        (["--model_id", "no/such/model/here"], "no/such/model/here is neither a folder here nor a hub id"),
    ],
)
def test_main_py_refuses_a_bad_flag(
    flags: list[str], said: str, good_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = one.main(["--data", good_file, "--outdir", str(tmp_path / "out"), *flags])
    assert code in (1, 2)
    captured = capsys.readouterr()
    assert said in captured.err + captured.out
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--space", "length"],
            "space is 'length'; it must be one of bit-width, mixed, sparsity, depth",
        ),
        (["--trials", "0"], "trials is 0"),
        (["--keep", "best"], "keep is 'best'"),
        (["--gpus-per-trial", "-1"], "gpus_per_trial is -1.0"),
        (["--quality", "ter"], "quality is 'ter'; it must be one of chrf, comet"),
        (["--rungs", "64,64"], "rungs is [64, 64]"),
        (["--floor", "50"], "floor is 50.0; it must be a number of at least 0 and below 1"),
        (["--model", "models/none/here"], "models/none/here is neither a folder here"),
    ],
)
def test_search_refuses_a_bad_flag(
    flags: list[str], said: str, good_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["search", "--data", good_file, "--out", str(tmp_path / "out"), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_main_py_refuses_a_file_as_its_folder_before_anything_is_measured(
    good_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.commands.single.attempt", lambda *_: pytest.fail("it was measured"))
    assert one.main(["--data", good_file, "--outdir", good_file]) == 2
    assert f"error: {good_file} exists and is not a folder; name another with --outdir" in capsys.readouterr().err
    assert json.loads(Path(good_file).read_text(encoding="utf-8")) == GOOD
    assert [path.name for path in tmp_path.iterdir()] == ["good.jsonl"]


def test_a_source_in_what_selects_and_what_judges_is_refused(
    good_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data", good_file, "--test", good_file, "--out", str(tmp_path / "out")]
    assert cli.main(["search", *flags]) == 2
    assert "all 1 segment of the dev data are in the test data too" in capsys.readouterr().err


def test_a_model_with_pickled_weights_only_is_refused_with_the_way_out(
    good_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(ROOT / "models" / "captions" / "config.json", model)
    (model / "pytorch_model.bin").write_bytes(b"")
    assert one.main(["--data", good_file, "--outdir", str(tmp_path / "out"), "--model_id", str(model)]) == 2
    assert "pickles only, which are never loaded; convert it once" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["main.py", "mtpareto search"])
def test_a_model_that_is_quantized_already_is_refused(
    command: str, good_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(ROOT / "models" / "captions", model)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    if command == "main.py":
        code = one.main(["--data", good_file, "--outdir", str(out), "--model_id", str(model), "--quant", "4bit"])
    else:
        code = cli.main(["search", "--data", good_file, "--out", str(out), "--model", str(model)])
    assert code == 2
    assert "it is quantized already" in capsys.readouterr().err
    assert not out.exists()


def test_a_run_is_not_begun_twice_in_one_folder(
    good_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_ledger(tmp_path / "out", {"spec": {}})
    before = (tmp_path / "out" / "ledger.jsonl").read_bytes()
    assert cli.main(["search", "--data", good_file, "--out", str(tmp_path / "out")]) == 2
    assert "mtpareto resume" in capsys.readouterr().err
    assert (tmp_path / "out" / "ledger.jsonl").read_bytes() == before


def test_a_search_that_is_running_is_not_resumed_beside_itself(
    good_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_from_mapping({"data": good_file, "out": str(tmp_path)}).absolute()
    create_ledger(tmp_path, {"spec": spec.to_json()})
    before = (tmp_path / "ledger.jsonl").read_bytes()
    with hold(tmp_path / LOCK, 0.0):
        assert cli.main(["resume", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert f"a search is running in {tmp_path}; wait for its end, or stop it" in message and message.count("\n") == 1
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize("command", [["resume"], ["report"], ["mirror"], ["rescore", "--metrics", "ter"]])
def test_a_folder_without_a_ledger_is_no_run(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, str(tmp_path)]) == 2
    assert "holds no ledger.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "rungs"), [("64,256", [64, 256]), (" 8 , 16,", [8, 16]), ("none", []), ("", []), (",", [])]
)
def test_rungs_are_numbers_or_none(text: str, rungs: list[int]) -> None:
    words = ["search", "--data", "dev.jsonl", "--rungs", text]
    options = cli.parser(words).parse_args(words)
    assert options.rungs == rungs


def test_rungs_that_are_no_numbers_are_refused_with_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        words = ["search", "--rungs", "few"]
        cli.parser(words).parse_args(words)
    assert "rungs is 'few'; it must be numbers of segments with commas, such as 64,256,1024, or none" in (
        capsys.readouterr().err
    )


def test_a_disk_that_is_full_ends_any_command_with_one_line_and_a_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(folder: Path, console: Any, **asked: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    def halted(folder: Path, console: Any, **asked: object) -> None:
        fault = unless_machine(lambda: full(folder, console), "compress")
        assert isinstance(fault, MachineFault)
        raise MachineError(fault, f" Then resume with: mtpareto resume {folder}")

    monkeypatch.setattr("orchestrator.finish.run_folder.report_again", halted)
    assert cli.main(["report", str(tmp_path)]) == MACHINE_EXIT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.count("No space left on device") == 1 and line.endswith(f"mtpareto resume {tmp_path}")
    monkeypatch.setattr("orchestrator.finish.run_folder.report_again", full)
    assert cli.main(["report", str(tmp_path)]) == MACHINE_EXIT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the disk is full on ") and str(tmp_path) in line and "Free some space" in line


def test_every_flag_of_main_py_is_taken_with_hyphens_and_with_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    for command in (one, cli):
        monkeypatch.setattr(command, "measure", lambda options, work: asked.append(vars(options)) or 0)
    switches = [
        action.option_strings[0] for action in one.parser()._actions if action.nargs == 0 and action.dest != "help"
    ]
    assert {"--skip_bad_rows", "--trust_remote_code", "--no_language_check", "--overwrite"} <= set(switches)
    for spelt in (switches, [f"--{flag[2:].replace('_', '-')}" for flag in switches]):
        flags = ["--data", "a-b.jsonl", "--outdir", "o", "--max-new-tokens=7", "--model-id", "x/a-b", *spelt]
        assert one.main(flags) == cli.main(["measure", *flags]) == 0
    assert all(asked[0].items() <= other.items() for other in asked)
    assert (asked[0]["data"], asked[0]["max_new_tokens"], asked[0]["model_id"]) == ("a-b.jsonl", 7, "x/a-b")
