"""Processes that take signals as those do that a terminal starts."""

from __future__ import annotations

import signal

from orchestrator.stopping.processes import SIGNALS


def heed_signals() -> None:
    """For `preexec_fn`: what a shell runs in the background ignores SIGINT, and so would what tests start there."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
