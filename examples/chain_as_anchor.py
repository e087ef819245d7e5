"""Measure two chains of one's own first: they are the anchors of a study, and with the baseline all of its trials."""

import sys

import mtpareto
from mtpareto import GPTQ, RTN, QuantizeEmbeddings, RemoveLayers

EMBEDDINGS = QuantizeEmbeddings(bits=8)
CHAINS = ((RTN(bits=8), EMBEDDINGS), (RemoveLayers(count=1), GPTQ(bits=4), EMBEDDINGS))


def main(out: str) -> None:
    data = str(mtpareto.SHIPPED_SEGMENTS)
    study = mtpareto.Study(data=data, anchors=CHAINS, trials=3, max_new_tokens=48, speed=False, keep="all", out=out)
    for point in mtpareto.search(study).trials:
        print(f"trial {point.record.number}: {point.label}: {point.quality:.2f} chrF in {point.bytes:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["runs/chains"])
