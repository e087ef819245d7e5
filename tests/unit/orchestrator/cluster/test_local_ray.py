"""What Ray's libraries log on a full disk is lost, and does not come out where the user reads."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT

# Its standard error is full; then that is the terminal again.
LOGS = """
import logging, os, sys
from orchestrator.cluster.local_ray import noise_to_stderr

terminal = os.dup(2)
os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
noise_to_stderr()
logging.getLogger("ray.tune").error("a state was not saved")
os.dup2(terminal, 2)
"""


def test_what_a_full_disk_does_not_take_of_rays_messages_is_not_kept_for_the_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
