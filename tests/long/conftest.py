"""Tests of minutes that need no Ray; on a thread each, as the unit tests are."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
