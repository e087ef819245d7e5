"""The files that go out beside an exported model's own, and whether it can go out at all."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from search_spaces.errors import StudyError
from workers.checkpoints.adapters import has_adapter
from workers.checkpoints.model_files import TOKENIZER, needed_files, read_config
from workers.export.package import EXPORTED
from workers.export.stored_weights import is_stored_apart, runs_quantized

HERE = Path(__file__).resolve().parent
SCRIPTS = (*EXPORTED, HERE / "run.sh", HERE / "setup.sh")
SUMS = "SHA256SUMS"
REQUIREMENTS = "requirements.txt"
ALWAYS = ("torch", "transformers", "accelerate", "safetensors", "tokenizers")
# The `quant_method` of config.json -> what runs it.
RUNS = {"compressed-tensors": "compressed-tensors", "bitsandbytes": "bitsandbytes"}


def refuse_unexportable(folder: Path) -> None:
    """Raise StudyError for a stored form that the exported scripts can't load, with the reason and the way out."""
    quantization = read_config(folder).get("quantization_config", {})
    if has_adapter(folder) and runs_quantized(quantization):
        raise StudyError(
            f"{folder} keeps an adapter beside layers that run as they are stored ({quantization['quant_method']}), "
            "which takes this project to merge; pick another model, or load this one with mtpareto.load_model"
        )


def copy_model(folder: Path, out: Path) -> int:
    """Copy every file that running the model needs; returns their bytes."""
    files = needed_files(folder)
    for file in files:
        target = out / file.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
    return sum(file.stat().st_size for file in files)


def copy_scripts(out: Path) -> None:
    """Copy what translates, and what it imports. Raises StudyError where the model has a file of one of their names."""
    for script in SCRIPTS:
        if (out / script.name).exists():
            raise StudyError(
                f"the model has a file {script.name} of its own, where the export's goes; it can't be exported"
            )
        shutil.copyfile(script, out / script.name)
        if script.suffix == ".sh":
            (out / script.name).chmod(0o755)


def requirements(folder: Path) -> list[str]:
    """What running the model needs, each at the version in use here."""
    names = list(ALWAYS)
    if not (folder / TOKENIZER).is_file():
        names.append("sentencepiece")
    quantization = read_config(folder).get("quantization_config", {})
    # What the exported scripts decode by themselves needs nobody else.
    if quantization and (runs_quantized(quantization) or not is_stored_apart(folder)):
        names.append(RUNS[quantization["quant_method"]])
    # A local build, such as 2.13.0+cpu, is on no index of packages.
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def write_sums(out: Path) -> None:
    """Write SHA256SUMS of all other files, as `sha256sum --check` reads it."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{_digest(file)}  {file.relative_to(out).as_posix()}\n" for file in files]
    (out / SUMS).write_text("".join(lines), encoding="utf-8")


def write_requirements(out: Path, lines: Sequence[str]) -> None:
    """Write requirements.txt."""
    (out / REQUIREMENTS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
