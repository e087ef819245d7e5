"""COMET's own Python environment: beside the main one, the same Python, torch and ray, and older packages before them.

COMET 2.2.7 wants transformers<5, numpy<2 and protobuf<5, which the main environment can't have. The folder is
MTPARETO_COMET_VENV; else the main environment's with `-comet` behind its name (`.venv-comet` beside `.venv`); else one
in the user's cache, when the main Python is no virtual environment. Its site-packages hold `requirements.txt`; a `.pth`
file puts the main environment's folders and this project behind them, so nothing large is installed twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path

from search_spaces.errors import UserError
from workers.runtime.file_locks import hold

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PROJECT = Path(__file__).resolve().parents[2]
FOLDER_VARIABLE = "MTPARETO_COMET_VENV"
STAMP = "mtpareto-comet.json"
SITE_FOLDERS = ("site-packages", "dist-packages")
CHECK = """
import warnings; warnings.simplefilter("ignore")
import comet, ray, workers.comet
print(ray.__version__)
"""


def comet_python(folder: Path | None = None) -> Path:
    """The interpreter of COMET's environment, which is made when it is missing or was made from something else.

    The first call takes about a minute; processes that ask at once wait for the first. Raises UserError when pip can't
    install what is needed, or when what it installed does not import.
    """
    folder = (folder or environment_folder()).absolute()
    python = folder / "bin" / "python"
    if _is_made(folder):
        return python
    with _locked(folder):
        if not _is_made(folder):
            _make(folder, python)
    return python


def environment_folder() -> Path:
    """Where COMET's environment is, or would be."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named)
    if sys.prefix != sys.base_prefix:
        return Path(f"{sys.prefix}-comet")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mtpareto" / f"venv-comet-{hashlib.sha256(sys.prefix.encode()).hexdigest()[:8]}"


def comet_version() -> str:
    """The release of unbabel-comet that the environment holds."""
    return dict(line.split("==") for line in REQUIREMENTS.read_text().split() if "==" in line)["unbabel-comet"]


def _expected() -> dict[str, object]:
    requirements = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    return {"requirements": requirements, "python": sys.version, "behind": sys.prefix}


def _behind() -> list[str]:
    """What is found after the environment's own packages: the main environment's, then this project."""
    folders = [path for path in sys.path if Path(path).name in SITE_FOLDERS and Path(path).is_dir()]
    return list(dict.fromkeys([*folders, str(PROJECT)]))


def _is_made(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / STAMP).read_text()) == _expected())
    except (OSError, ValueError):
        return False


def _locked(folder: Path) -> AbstractContextManager[object]:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return hold(folder.with_name(f"{folder.name}.lock"))
    except OSError as error:
        raise UserError(
            f"COMET's environment can't be made at {folder}: {error}; name another folder with {FOLDER_VARIABLE}"
        ) from error


def _make(folder: Path, python: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    venv.create(folder, with_pip=False, symlinks=True)
    # The main environment's pip: making one there would take as long as a third of the packages.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check"]
    _run([*pip, "install", "--no-deps", "--requirement", str(REQUIREMENTS)], "installing COMET's packages")
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "mtpareto-behind.pth").write_text("".join(f"{path}\n" for path in _behind()))
    found = _run([str(python), "-I", "-c", CHECK], "importing COMET in its new environment").strip()
    if found != version("ray"):
        raise UserError(
            f"COMET's environment {folder} finds ray {found}, and this one has {version('ray')}; remove what installs "
            "another ray for this Python"
        )
    (folder / STAMP).write_text(json.dumps(_expected(), indent=1))


def _run(command: list[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise UserError(
            f"{what} failed, so COMET can't be used:\n{said}\nThe packages are in {REQUIREMENTS}, and a package index "
            "must be in reach. To continue without it, leave out comet and cometkiwi"
        )
    return done.stdout


if __name__ == "__main__":
    made = comet_python().parents[1]
    (made / STAMP).touch()
    print(f"COMET's environment: {made}")
