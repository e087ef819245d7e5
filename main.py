"""One candidate, measured: translate a data file with a model, compressed or not, and score it.

It shares every line of its work with a trial of `mtpareto search`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from orchestrator.cli import exit_code_of
from orchestrator.commands.measure import HYPHENS, add_arguments, measure, with_underscores
from orchestrator.stopping.signals import RunningCommand, stoppable
from orchestrator.stopping.terminal import lasting_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when measured, 1 when the candidate failed, 2 for what the user can mend, 75 where the machine
    must be mended first, 130 for what a signal stopped."""
    options = parser().parse_args(
        [with_underscores(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    )
    work = RunningCommand()
    with lasting_streams(), stoppable(work):
        return exit_code_of(partial(measure, options, work))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="main.py", description=__doc__, epilog=HYPHENS)
    add_arguments(top)
    return top


if __name__ == "__main__":
    sys.exit(main())
