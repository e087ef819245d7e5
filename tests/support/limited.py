"""A worker that can't write large files while it makes a candidate, as on a file system that allows none."""

from __future__ import annotations

import resource
from typing import Any

from workers.evaluation import trial_actor

# Less than any artefact of the shipped model.
LARGEST = 2_000_000


class Limited(trial_actor.CompressionTrial):
    """The kernel writes no byte of any file beyond LARGEST, but in the baseline's trial."""

    def setup(self, config: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().setup(config, *args, **kwargs)
        limit(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        limit(new_config)
        return super().reset_config(new_config)


def limit(config: dict[str, Any]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    soft = LARGEST if config["candidate"]["steps"] else hard
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
