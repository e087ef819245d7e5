"""A study's registered model: a version for each model that was kept, with its card, and the aliases that name them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow_tracking.trial_fields import TRIAL_TAG

STUDY_TAG = "mtpareto.study"
FOLDER_TAG = "artefact"
KEPT_TAG = "kept"
VERSIONS_TAG = "mlflow.modelVersions"
MISSING = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A kept artefact as a version of the study's registered model."""

    uid: str
    """The trial, as its run is known by."""
    run_id: str
    """The trial's run."""
    model_id: str
    """Its LoggedModel."""
    folder: Path
    """Where the weights lie and stay."""
    card: str
    """The model card, in Markdown."""
    ended: str
    """When its trial did, ISO 8601."""
    aliases: tuple[str, ...] = ()
    """The names that it has earned."""


def register(
    client: Any, study: str, name: str, models: Sequence[KeptModel], aliases: Sequence[str], is_server: bool
) -> str | None:
    """Bring the study's registered model up to date; returns its name, or None where nothing was ever kept.

    A version is made once for a trial. One whose folder has gone since stays, with the tag `kept` = `no`. aliases: all
    those that are ours to give: one that no model has earned is taken back. is_server: MLflow takes no path outside its
    own artifacts through a server; a version's source is then its LoggedModel, and the tag `artefact` has the folder.
    """
    known, name = registered(client, study, name)
    if known is None and not models:
        return None
    if known is None:
        client.create_registered_model(name, tags={STUDY_TAG: study}, description=_about(study))
    versions = {one.tags.get(TRIAL_TAG): one for one in client.search_model_versions(f"name = '{name}'")}
    numbers = {model.uid: _version(client, name, versions.get(model.uid), model, is_server) for model in models}
    for model in models:
        _link(client, model.model_id, name, numbers[model.uid])
    for uid, version in versions.items():
        if uid is not None and uid not in numbers and version.tags.get(KEPT_TAG) == "yes":
            client.set_model_version_tag(name, version.version, KEPT_TAG, "no")
    earned = {alias: str(numbers[model.uid]) for model in models for alias in model.aliases}
    _name(client, name, known.aliases if known else {}, earned, aliases)
    return name


def study_tag(study: str) -> str:
    """What a study's runs are found by: its folder, or that folder's URI where it has an apostrophe."""
    # MLflow's filters have no escape for the quotes around a value, and a folder's name may have both kinds.
    return f"file://{quote(study)}" if "'" in study else study


def model_name(study_name: str) -> str:
    """The study's name in what a registered model's name and `models:/NAME@ALIAS` take."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", study_name).strip("-.") or "study"


def registered(client: Any, study: str, name: str) -> tuple[Any | None, str]:
    """The study's registered model, if it is there, and the name that it has or is to have: with part of a digest of
    the study where another study has the plain one."""
    plain = model_name(name)
    own = f"{plain}-{hashlib.sha256(study.encode()).hexdigest()[:8]}"
    found = _get(client, own)
    if found is not None:
        return found, own
    found = _get(client, plain)
    if found is None or found.tags.get(STUDY_TAG) == study:
        return found, plain
    return None, own


def _get(client: Any, name: str) -> Any | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise
        return None


def _version(client: Any, name: str, version: Any | None, model: KeptModel, is_server: bool) -> int:
    """The number of the model's version, made where it is missing."""
    tags = {TRIAL_TAG: model.uid, FOLDER_TAG: str(model.folder), KEPT_TAG: "yes"}
    if version is None:
        source = f"models:/{model.model_id}" if is_server else model.folder.as_uri()
        made = client.create_model_version(
            name,
            source,
            run_id=model.run_id,
            tags=tags,
            description=model.card,
            await_creation_for=0,
            model_id=model.model_id,
        )
        return int(made.version)
    if version.description != model.card:
        client.update_model_version(name, version.version, model.card)
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, version.version, key, value)
    return int(version.version)


def _link(client: Any, model_id: str, name: str, number: int) -> None:
    """Have the LoggedModel name its version, as MLflow's own registering does, so that lists of models show it."""
    said = client.get_logged_model(model_id).tags.get(VERSIONS_TAG)
    versions = json.loads(said) if said else []
    if (name, str(number)) not in [(one["name"], str(one["version"])) for one in versions]:
        versions.append({"name": name, "version": str(number)})
        client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps(versions)})


def _name(client: Any, name: str, have: Mapping[str, Any], earned: Mapping[str, str], ours: Sequence[str]) -> None:
    """Move our aliases to where they belong; others stay."""
    for alias in ours:
        if alias in earned and str(have.get(alias)) != earned[alias]:
            client.set_registered_model_alias(name, alias, earned[alias])
        elif alias in have and alias not in earned:
            client.delete_registered_model_alias(name, alias)


def _about(study: str) -> str:
    return (
        f"The models that the study in {study} kept. A version is a model: its card says what it is, what it costs and "
        "how to load it. The aliases follow the frontier."
    )
