"""The shipped model's score, by `main.py` on the CPU."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray.conftest import ROOT, environment

MULTI30K = ROOT.parent / "shared" / "data" / "multi30k"
# sacreBLEU on test_2016_flickr that the shipped model must reach, by target language.
LEAST = {"de": 36.5, "fr": 55.0, "cs": 31.0}


def scores(data: Path, outdir: Path) -> dict[str, dict[str, float]]:
    command = [sys.executable, "main.py", "--data", str(data), "--outdir", str(outdir), "--max_new_tokens", "96"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((outdir / "summary.json").read_text(encoding="utf-8"))["metrics"]
    return {name: metrics[name]["by_langpair"] for name in metrics}


@pytest.mark.skipif(
    not MULTI30K.is_dir(), reason="needs Multi30k in ../shared/data/multi30k, which is not part of the project"
)
def test_bleu_on_multi30k_test_2016(tmp_path: Path) -> None:
    sides = {
        language: gzip.decompress((MULTI30K / f"test_2016_flickr.{language}.gz").read_bytes()).decode().splitlines()
        for language in ("en", *LEAST)
    }
    data = tmp_path / "test_2016.jsonl"
    with data.open("w", encoding="utf-8") as stream:
        for language in LEAST:
            for source, reference in zip(sides["en"], sides[language], strict=True):
                stream.write(json.dumps({"src": source, "ref": reference, "langs": f"en-{language}"}) + "\n")
    bleu = scores(data, tmp_path / "out")["bleu"]
    for language, least in LEAST.items():
        assert bleu[f"en-{language}"] >= least, bleu


def test_the_model_fits_what_the_repository_allows() -> None:
    size = sum(file.stat().st_size for file in (ROOT / "models" / "captions").iterdir())
    assert size <= 12 * 10**6
