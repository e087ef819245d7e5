"""`mtpareto doctor`: what would stop a search is told with what mends it, and a broken torch is a finding."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.doctor import libraries, machine
from orchestrator.doctor.doctor import doctor, smallest_gpu, store_of
from orchestrator.doctor.finding import Finding, conclusion
from orchestrator.doctor.libraries import library_answers, library_findings
from orchestrator.doctor.machine import mlflow_finding, packages_finding, python_finding, ray_finding
from orchestrator.doctor.study_checks import comet_findings, study_findings
from orchestrator.study.spec import StudySpec, spec_from_mapping
from tests.support.paths import ROOT
from tests.support.recorded_run import Made, write_data, write_run

DATA = str(ROOT / "data" / "subset.jsonl")
GPU = {"name": "NVIDIA H200", "bytes": 150_000_000_000, "free": 149_000_000_000, "computes": True}


def spec(folder: Path, **more: object) -> StudySpec:
    return spec_from_mapping({"data": DATA, "out": str(folder / "run"), "trials": 15, **more}).absolute()


def of_study(folder: Path, memory: int | None = None, **more: object) -> dict[str, Finding]:
    return {one.what: one for one in study_findings(spec(folder, **more), memory)[0]}


def test_a_sound_study_has_a_line_for_each_thing_and_nothing_wrong(tmp_path: Path) -> None:
    found = of_study(tmp_path)
    assert list(found) == [
        "folder", "data", "languages", "learning data", "model", "prompt", "trials", "disk",
    ]  # fmt: skip
    assert {one.level for one in found.values()} == {"ok"}
    assert "252 segments, en-cs, en-de, en-fr" in found["data"].said
    assert "10.37 MB, 5 M parameters, 4 layers" in found["model"].said
    assert list(tmp_path.iterdir()) == [], "nothing was written"


def test_what_a_study_names_and_is_not_there_is_wrong(tmp_path: Path) -> None:
    found = of_study(tmp_path, data=str(tmp_path / "gone.jsonl"))
    assert found["data"].level == "wrong" and "gone.jsonl" in found["data"].said
    assert found["model"].level == "ok" and found["disk"].said == "not looked at, since the data is wrong"
    found = of_study(tmp_path, model=str(tmp_path / "nowhere"))
    assert found["model"].level == "wrong" and found["data"].level == "ok"
    found = of_study(tmp_path, langs="en-xx")
    assert found["data"].level == "wrong"


def test_data_in_other_languages_than_they_say_are_wrong(tmp_path: Path) -> None:
    lines = (ROOT / "data" / "subset.jsonl").read_text(encoding="utf-8").replace('"en-de"', '"en-ja"')
    (tmp_path / "data.jsonl").write_text(lines, encoding="utf-8")
    found = of_study(tmp_path, data=str(tmp_path / "data.jsonl"))
    assert found["languages"].level == "wrong" and "--no-language-check" in found["languages"].said
    assert "languages" not in of_study(tmp_path, check_languages=False)


def test_a_folder_that_is_taken_and_a_store_that_is_too_small_are_wrong(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"dev": write_data(tmp_path / "dev.jsonl")}, [Made(100, 0.0, None)])
    found = of_study(tmp_path, store_limit="1MB")
    assert found["folder"].level == "wrong" and "mtpareto resume" in found["folder"].said
    assert found["disk"].level == "wrong" and "--store-limit 1.00 MB does not hold" in found["disk"].said


def test_a_trial_that_no_gpu_holds_is_wrong(tmp_path: Path) -> None:
    assert of_study(tmp_path, memory=10_000_000)["GPU memory"].level == "wrong"
    roomy = of_study(tmp_path, memory=GPU["bytes"])["GPU memory"]  # type: ignore[arg-type]
    assert roomy.level == "ok" and "of 150.00 GB to translate" in roomy.said


def test_comet_is_looked_at_only_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert comet_findings(spec(tmp_path)) == []
    monkeypatch.setenv("MTPARETO_COMET_VENV", str(tmp_path / "venv"))
    monkeypatch.setenv("MTPARETO_COMET", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = spec(tmp_path, quality="comet", comet_model="someone/some-comet")
    environment, model = comet_findings(asked)
    assert environment.level == "warning" and "is not made" in environment.said
    assert model.level == "wrong" and model.mend == f"put it into {tmp_path / 'models' / 'someone/some-comet'}"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert comet_findings(asked)[1].level == "warning"
    (tmp_path / "models/someone/some-comet/checkpoints").mkdir(parents=True)
    (tmp_path / "models/someone/some-comet/checkpoints/model.ckpt").touch()
    assert comet_findings(asked)[1].level == "ok"


def broken(folder: Path, name: str, code: str) -> str:
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return str(folder)


def test_a_library_that_is_broken_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(tmp_path, "torch", "raise ImportError('libcudart.so.13: cannot open shared object file')")
    broken(tmp_path, "bitsandbytes", "import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answers = library_answers(("torch", "bitsandbytes"))
    assert answers["torch"] == "ImportError: libcudart.so.13: cannot open shared object file"
    assert answers["bitsandbytes"] == "loading it ended the process by signal 6"
    (finding,) = library_findings(answers)
    assert finding.level == "wrong" and finding.mend.endswith("-m pip install --force-reinstall torch")


def test_the_command_goes_on_beside_a_broken_torch_and_ends_with_1(tmp_path: Path) -> None:
    broken(tmp_path, "torch", "raise ImportError('no libcudart')")
    (tmp_path / "study.yaml").write_text(f"data: {DATA}\nout: {tmp_path / 'run'}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "doctor", str(tmp_path / "study.yaml")],
        capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert any(line.split()[:2] == ["wrong", "torch"] and "no libcudart" in line for line in lines)
    assert any(line.split()[:2] == ["ok", "model"] for line in lines)
    assert lines[-1].startswith("1 finding would stop a search")


def test_gpus_are_told_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = {"version": "2.13.0", "cuda": "13.0", "gpus": [GPU, {**GPU, "free": 10}, {**GPU, "computes": False}]}
    answers = {"torch": torch, "bitsandbytes": "ImportError: gone", "triton": "ImportError: gone"}
    findings = {one.what: one for one in library_findings(answers, needed=("bitsandbytes",))}
    assert findings["torch"].said == "2.13.0, CUDA 13.0"
    assert findings["GPU 0"].said == "NVIDIA H200, 150.00 GB, of which 149.00 GB are free"
    assert [findings[f"GPU {number}"].level for number in range(3)] == ["ok", "warning", "wrong"]
    assert findings["bitsandbytes"].level == "wrong" and findings["triton"].level == "warning"
    assert smallest_gpu(answers) == GPU["bytes"]
    on_cpu = library_findings({**answers, "torch": {**torch, "cuda": None, "gpus": []}})
    assert [one.level for one in on_cpu] == ["ok", "warning", "warning", "ok"]
    assert smallest_gpu({"torch": "ImportError"}) is None


def test_a_library_that_hangs_is_left(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=-1, stderr=-1, text=True)
    assert libraries._answer(process, seconds=0.2) == "loading it took more than 0 s"
    assert process.poll() is not None


def test_python_and_packages() -> None:
    assert python_finding((3, 11)).level == "ok" and python_finding((3, 13)).level == "wrong"
    assert packages_finding().level == "ok"
    missing = packages_finding(("numpy", "no_such_package", "mecab_ko"))
    assert missing.level == "wrong" and "no_such_package" in missing.said and "'no_such_package'" in missing.mend


def test_a_cluster_that_does_not_answer_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_finding(None).level == "ok"
    gone = ray_finding("127.0.0.1:9")
    assert gone.level == "wrong" and "no Ray cluster answers at 127.0.0.1:9" in gone.said


@pytest.fixture(name="server")
def health_server() -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_mlflows_store(tmp_path: Path, server: str) -> None:
    assert mlflow_finding(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}").said.endswith("will be made")
    (tmp_path / "text.db").write_text("no database, but text of some length", encoding="utf-8")
    assert mlflow_finding(f"sqlite:///{tmp_path / 'text.db'}").level == "warning"
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t (x)")
    assert "no store of MLflow's" in mlflow_finding(f"sqlite:///{tmp_path / 'other.db'}").said
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("CREATE TABLE alembic_version (version_num)")
    assert mlflow_finding(f"sqlite:///{tmp_path / 'mlflow.db'}").level == "ok"
    assert mlflow_finding(server).said == f"{server} answers (200)"
    assert mlflow_finding("http://127.0.0.1:9").level == "warning"
    assert store_of(None, {"MLFLOW_TRACKING_URI": "http://there"}) == "http://there"


def test_a_study_file_that_is_wrong_is_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = {"torch": {"version": "2", "cuda": None, "gpus": []}, "bitsandbytes": {"version": "1"}}
    monkeypatch.setattr("orchestrator.doctor.doctor.library_answers", lambda: sound)
    (tmp_path / "study.yaml").write_text("data: x.jsonl\nout: run\ntrails: 3\n", encoding="utf-8")
    assert cli.main(["doctor", str(tmp_path / "study.yaml")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["wrong", "study"] and "trails" in line for line in lines)
    assert cli.main(["doctor"]) == 0
    assert "disk" in [line.split()[1] for line in capsys.readouterr().out.splitlines()[:-1]]
    of_the_study = doctor(lambda: spec(tmp_path))
    assert "prompt" in [one.what for one in of_the_study] and not [one for one in of_the_study if one.level == "wrong"]


def test_a_line_is_one_line_and_the_last_counts() -> None:
    line = Finding("wrong", "disk", "two\nlines", "free some space").line()
    assert line == "wrong    disk          two lines; mend: free some space"
    assert conclusion([Finding("wrong", "a", ""), Finding("warning", "b", "")]) == (
        "1 finding would stop a search, 1 warning"
    )
    assert conclusion([Finding("ok", "a", "")]) == "nothing would stop it"
    assert machine.disk_finding(Path("/nowhere/at/all")).level == "ok"
