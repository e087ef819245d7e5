"""COMET's environment: where it is made, and what is said when it can't be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from search_spaces.errors import UserError
from workers.comet.environment import STAMP, comet_python, environment_folder


def test_it_lies_beside_the_main_one_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTPARETO_COMET_VENV", raising=False)
    monkeypatch.setattr(sys, "prefix", "/srv/project/.venv")
    assert environment_folder() == Path("/srv/project/.venv-comet")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environment_folder().parent == tmp_path / "mtpareto"
    monkeypatch.setenv("MTPARETO_COMET_VENV", str(tmp_path / "named"))
    assert environment_folder() == tmp_path / "named"


def test_without_a_package_index_it_says_what_is_missing_and_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PIP_CONFIG_FILE", "/dev/null"), ("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path))):
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError, match=r"installing COMET's packages failed[\s\S]*unbabel-comet==2\.2\.7[\s\S]*requirements"
    ):
        comet_python(tmp_path / "environment")
    assert not (tmp_path / "environment" / STAMP).exists()


def test_a_folder_that_can_not_be_made_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="MTPARETO_COMET_VENV"):
        comet_python(tmp_path / "file" / "environment")
