"""Data sets in MLflow: their name, their digest and where they lie. No sentence of them is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# MLflow takes 36 characters.
DIGEST_LENGTH = 16
CONTEXT_TAG = "mlflow.data.context"


@dataclass(frozen=True, slots=True)
class MirroredData:
    """A data set that trials are measured on."""

    name: str
    """The file's name; of several, the first one's and how many more there are."""
    sha256: str
    """The digest of its segments, in hexadecimal."""
    source: str
    """The file's path; of several, all with commas."""
    split: str
    """What a study uses it for: `dev` or `test`."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Such as how many segments it has."""

    @property
    def digest(self) -> str:
        """The digest as MLflow and a trial's conditions have it."""
        return self.sha256[:DIGEST_LENGTH]


def input_of(data: MirroredData) -> Any:
    """MLflow's entity of a data set as the input of a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=data.name,
        digest=data.digest,
        source_type="local",
        source=json.dumps({"uri": data.source}),
        profile=json.dumps(dict(data.counts)) if data.counts else None,
    )
    return DatasetInput(entity, [InputTag(CONTEXT_TAG, data.split)])


def is_input(run: Any, data: MirroredData) -> bool:
    """Whether MLflow's run has the data set among its inputs."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return (data.name, data.digest) in {(one.dataset.name, one.dataset.digest) for one in inputs}
