"""Search the shipped model on the shipped data, then read what was found. Takes a minute or two on a CPU."""

import sys

import mtpareto


def main(out: str) -> None:
    study = mtpareto.Study(
        data=str(mtpareto.SHIPPED_SEGMENTS), space="bit-width", trials=3, max_new_tokens=48, speed=False, out=out
    )
    run = mtpareto.search(study)
    print(run.to_frame()[["trial", "steps", "bytes", "ratio", "chrf", "on_frontier"]].to_string(index=False))
    for point in run.frontier:
        print(f"{point.label}: {point.quality:.2f} chrF, {point.ratio:.2f} times smaller")
    print(run.recommendation)


if __name__ == "__main__":
    main(*sys.argv[1:] or ["runs/example"])
