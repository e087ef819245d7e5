"""What the README says is so: its commands run as written, its links exist, its file map is the repository's."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import parser
from tests.ray.conftest import ROOT, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")) + [ROOT / "data" / "README.md"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def main_commands() -> list[str]:
    """The `python main.py` commands, their continued lines joined."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [" ".join(line.split("#")[0].split()) for line in lines if line.startswith("python main.py")]


@pytest.mark.parametrize("command", main_commands())
def test_main_commands_run_as_written(command: str, tmp_path: Path) -> None:
    words = shlex.split(command.replace("MODEL", "models/captions"))
    outdir = words.index("--outdir") + 1
    words[outdir] = str(tmp_path / "run")
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["metrics"]["chrf"]["overall"] > 40
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) == summary["counts"]["segments"]
    assert {"id", "langs", "src", "ref", "pred", "domain", "doc_id", "metrics"} <= set(lines[0])
    assert (tmp_path / "run" / "rows.csv").read_text(encoding="utf-8").count("\n") == len(lines) + 1


def test_the_readme_has_the_three_seed_commands() -> None:
    assert len(main_commands()) >= 3


def test_every_make_target_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"{page.name} names make {target}"


def test_every_command_of_mtpareto_named_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"`([^`\n]+)`", text))
        for name in set(re.findall(r"^mtpareto ([a-z]+)", code, flags=re.MULTILINE)):
            with pytest.raises(SystemExit) as ended:
                parser([name, "--help"]).parse_args([name, "--help"])
            assert ended.value.code == 0, f"{page.name} names mtpareto {name}"


def test_every_relative_link_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                # Markdown has paths with spaces in angle brackets.
                assert (page.parent / target.strip("<>")).exists(), f"{page.name} links to {target}"


def test_the_file_map_is_the_repository() -> None:
    listed = set(re.findall(r"^\s*([\w./-]+)\s{2,}\S", blocks("text")[-1], flags=re.MULTILINE))
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.splitlines()
    top = {name.split("/")[0] + ("/" if "/" in name else "") for name in tracked if not name.startswith(".")}
    assert {name.split("/")[0] + ("/" if "/" in name else "") for name in listed} == top
    for name in listed:
        assert (ROOT / name).exists(), f"the file map names {name}"
