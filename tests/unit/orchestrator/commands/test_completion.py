"""What a shell completes: asked in bash itself; zsh and fish read their scripts where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.commands.completion import completion_script
from orchestrator.number_format import METRIC_NAMES
from orchestrator.study.keys import flag_name, keys_of
from orchestrator.study.spec import StudySpec
from search_spaces.methods.registry import METHODS
from search_spaces.spaces.registry import SPACES

ASK = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
$(complete -p mtpareto | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(name="script", scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "mtpareto.bash"
    path.write_text(completion_script("bash", cli.parser(["search", "measure"])), encoding="utf-8")
    return path


def completed(script: Path, *words: str, folder: Path | None = None) -> set[str]:
    asked = ["bash", "--norc", "-c", ASK, "bash", str(script), "mtpareto", *words]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=folder, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_subcommands_and_their_flags_are_completed(script: Path) -> None:
    top = completed(script, "")
    assert {"search", "report", "completion", "translate", "bench"} <= top
    assert completed(script, "re") == {"report", "resume", "rescore", "recipes"}
    flags = completed(script, "search", "--")
    assert {flag_name(key, info) for key, info in keys_of(StudySpec).items()} - {None} <= flags
    assert completed(script, "search", "study.yaml", "--max-b") == {"--max-bytes"}
    assert completed(script, "bench", "se") == {"search"}
    assert "--eval_metrics" in completed(script, "measure", "--eval")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("search", "--space", ""), set(SPACES)),
        (("search", "study.yaml", "--quality", ""), {"chrf", "comet"}),
        (("rescore", "run", "--metrics", ""), set(METRIC_NAMES)),
        (("methods", ""), set(METHODS)),
        (("methods", "gp"), {"gptq"}),
        (("table", "run", "--format", "la"), {"latex"}),
        (("completion", ""), set(cli.SHELLS)),
    ],
)
def test_names_are_completed(words: tuple[str, ...], expected: set[str], script: Path) -> None:
    assert completed(script, *words) == expected


def test_paths_are_completed(script: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "rows.jsonl").touch()
    assert completed(script, "search", "--data", "r", folder=tmp_path) == {"runs", "rows.jsonl"}
    assert completed(script, "report", "r", folder=tmp_path) == {"runs"}, "a run is a folder"


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_the_command_prints_a_script_that_its_shell_reads(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert "gptq" in said and "max-bytes" in said and "%%" not in said.replace("${", "")
    if shutil.which(shell) is not None:
        path = tmp_path / "script"
        path.write_text(said, encoding="utf-8")
        subprocess.run([shell, "-n", str(path)], check=True)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["completion", "tcsh"])
    assert "choose from 'bash', 'zsh', 'fish'" in capsys.readouterr().err
