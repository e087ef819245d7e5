"""No shipped sentence is one of Multi30k's; runs where that corpus lies beside the project."""

from __future__ import annotations

import gzip
import re

import pytest

from tests.support.paths import ROOT
from workers.reading.dataset import read_dataset

MULTI30K = ROOT.parent / "shared" / "data" / "multi30k"
NEEDS = pytest.mark.skipif(not MULTI30K.is_dir(), reason="needs Multi30k in ../shared/data/multi30k")


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@NEEDS
@pytest.mark.parametrize("name", ["subset.jsonl", "test.jsonl", "calibration.jsonl.gz"])
def test_no_source_is_in_multi30k(name: str) -> None:
    theirs: set[str] = set()
    for split in ("train", "val", "test_2016_flickr"):
        lines = gzip.decompress((MULTI30K / f"{split}.en.gz").read_bytes()).decode().splitlines()
        theirs.update(plain(line) for line in lines)
    ours = {plain(segment.source) for segment in read_dataset(ROOT / "data" / name).segments}
    assert not ours & theirs
