"""Makes calibration.jsonl.gz: template sentences (templates.py) and what the shipped model translates them to.

The targets are machine-made, so the file serves calibration and nothing else: it is never scored against.

    python data/make_calibration.py
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from data.templates import sentences  # noqa: E402
from workers.loading.load import load_model, load_tokenizer  # noqa: E402
from workers.reading.segments import Segment  # noqa: E402
from workers.translation.decoding import Decoding  # noqa: E402
from workers.translation.prompts import PROMPTS  # noqa: E402
from workers.translation.translator import translate  # noqa: E402

MODEL = ROOT / "models" / "captions"
SENTENCES = 450
TARGETS = ("de", "fr", "cs")
DECODING = Decoding(max_new_tokens=96)


def main() -> None:
    """Translate the sentences into each target language and write the pairs that came out whole."""
    sources = sentences(SENTENCES)
    segments = [
        Segment(f"{target}:{line}", f"en-{target}", source, ("",), "", "caption")
        for target in TARGETS
        for line, source in enumerate(sources, start=1)
    ]
    model = load_model(MODEL)
    hypotheses = translate(model, load_tokenizer(MODEL), PROMPTS["alma"], segments, (), DECODING, context=512)
    whole = [
        (segment, hypothesis.text)
        for segment, hypothesis in zip(segments, hypotheses, strict=True)
        if hypothesis.text and not hypothesis.truncated
    ]
    rows = [{"src": segment.source, "ref": text, "langs": segment.langs} for segment, text in whole]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (ROOT / "data" / "calibration.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    print(f"{len(whole)} pairs written, {len(segments) - len(whole)} left out (empty or cut short)")


if __name__ == "__main__":
    main()
