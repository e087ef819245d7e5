"""A worker that leaves GPU memory behind after every trial, as far as it knows."""

from __future__ import annotations

from typing import Any

from workers.evaluation import trial_actor


class Littering(trial_actor.CompressionTrial):
    """Between two trials it sees a whole GPU taken."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        trial_actor.bytes_left_behind = lambda: 80 * 2**30
        return super().reset_config(new_config)
