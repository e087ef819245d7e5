"""The model and the data that come with the project: in a checkout, or in an installed package."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Where a wheel has them (setup.py).
INSTALLED = ROOT / "mtpareto" / "shipped"
SHIPPED_MODEL = INSTALLED / "captions" if INSTALLED.is_dir() else ROOT / "models" / "captions"
SHIPPED_DATA = INSTALLED if INSTALLED.is_dir() else ROOT / "data"
SHIPPED_CALIBRATION = SHIPPED_DATA / "calibration.jsonl.gz"
SHIPPED_SEGMENTS = SHIPPED_DATA / "subset.jsonl"
