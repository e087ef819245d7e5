"""What `mlflow.pyfunc.load_model` needs, written into a kept model's folder: an MLmodel, environments, and code.

None of it is needed to run the model otherwise, and none of it counts for its size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import yaml

from mlflow_tracking.registry import KeptModel
from search_spaces.errors import StudyError
from workers.checkpoints.model_files import bytes_on_disk
from workers.export.package import LOADER, PACKAGE, package_files
from workers.runtime.atomic_files import write_whole
from workers.translation.prompt_file import PROMPT_FILE, Asking, read_asking

# As MLflow calls them.
MLMODEL, REQUIREMENTS, PYTHON_ENV, CONDA_ENV = "MLmodel", "requirements.txt", "python_env.yaml", "conda.yaml"
CODE = "code"
ASKED = f"{CODE}/{PACKAGE}/{PROMPT_FILE}"
BUILDERS = ["pip", "setuptools", "wheel"]


def make_loadable(model: KeptModel, trust_remote_code: bool = False) -> None:
    """Write the files, each whole or not at all and the MLmodel last; where all are there and say the same, nothing.

    Raises UserError for a model that can't be loaded without this project, and OSError where its folder can't be
    written to.
    """
    folder = model.folder
    size = bytes_on_disk(folder)
    asking = read_asking(folder)
    if asking is None:
        raise StudyError(f"{folder} has no {PROMPT_FILE}, which says how the model is asked; mtpareto report writes it")
    code = {f"{CODE}/{PACKAGE}/{name}": text for name, text in package_files().items()}
    about = {MLMODEL: mlmodel(model, size, asking.decoding.batch_size)}
    if _is_whole(folder, {**code, **about}, asking):
        return
    # These load torch and transformers, which takes seconds.
    from workers.export.files import refuse_unexportable, requirements
    from workers.export.request import refuse_no_pairs, request_record

    refuse_unexportable(folder)
    refuse_no_pairs(asking.pairs)
    asked = {**asking.to_json(), **request_record(folder, asking, asking.pairs, trust_remote_code)}
    needed = [f"mlflow=={version('mlflow')}", *requirements(folder)]
    texts = {
        **code,
        ASKED: json.dumps(asked, ensure_ascii=False, indent=2) + "\n",
        **environments(needed),
        **about,
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, text)


def _is_whole(folder: Path, texts: Mapping[str, str], asking: Asking) -> bool:
    """Whether the files are there: these with their texts, and of the others how the model is asked."""
    try:
        asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
        same = all((folder / name).read_text(encoding="utf-8") == text for name, text in texts.items())
    except (FileNotFoundError, ValueError):
        return False
    others = all((folder / name).is_file() for name in (REQUIREMENTS, PYTHON_ENV, CONDA_ENV))
    return same and others and all(asked.get(key) == value for key, value in asking.to_json().items())


def environments(needed: Sequence[str]) -> dict[str, str]:
    """What an environment is made by, file -> text: for pip, for MLflow's virtualenv and for conda. needed: lines of
    requirements."""
    venv = {"python": python_version(), "build_dependencies": BUILDERS, "dependencies": [f"-r {REQUIREMENTS}"]}
    packages = [f"python={python_version()}", "pip", {"pip": list(needed)}]
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": packages}
    return {
        REQUIREMENTS: "".join(f"{line}\n" for line in needed),
        PYTHON_ENV: yaml.safe_dump(venv, sort_keys=False),
        CONDA_ENV: yaml.safe_dump(conda, sort_keys=False),
    }


def mlmodel(model: KeptModel, size: int, batch_size: int) -> str:
    """The text of the MLmodel; the same model has the same one. size: in bytes. batch_size: that is used where
    `predict` is told none."""
    from mlflow.models import Model
    from mlflow.pyfunc import add_to_model

    made = Model(
        run_id=model.run_id,
        utc_time_created=datetime.fromisoformat(model.ended).astimezone(UTC).replace(tzinfo=None),
        signature=_signature(batch_size),
        model_uuid=model.model_id.removeprefix("m-"),
        model_size_bytes=size,
        model_id=model.model_id,
    )
    add_to_model(made, loader_module=f"{PACKAGE}.{LOADER}", code=CODE, conda_env=CONDA_ENV, python_env=PYTHON_ENV)
    return str(made.to_yaml())


def _signature(batch_size: int) -> Any:
    """Strings in, strings out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    params = [ParamSpec("source", "string", None), ParamSpec("target", "string", None)]
    params.append(ParamSpec("batch_size", "long", batch_size))
    found = ModelSignature(Schema([ColSpec("string")]), Schema([ColSpec("string")]), ParamSchema(params))
    # Else MLflow cuts a table to its first column without a word, whatever its name; `predict` looks at all of them.
    found._is_signature_from_type_hint = True
    return found
