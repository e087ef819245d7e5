"""Sources that nobody wrote, for a teacher to translate where there are no more of its kind.

    python -m workers.training.data.synthetic_sources --training train.jsonl --langs en-de,en-fr --count 96000 \
        --out made_up.jsonl

A model translates the sources that it learnt from as it was taught, and others as it can; a student that shall become
like it needs to see the latter. Each word is drawn after the two before it as often as training sources have it there
(a trigram model, Jurafsky and Martin, https://web.stanford.edu/~jurafsky/slp3/3.pdf).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from search_spaces.errors import StudyError, UserError
from workers.languages.codes import split_pair
from workers.languages.scripts import UNSPACED, script_of
from workers.reading.training_data import TrainingData, examples, normalise_text, training_data

# So many drawn in a row that are no new source: then there are too few to be had.
MOST_IN_VAIN = 10_000
# Shares of the training sources that are shorter, and longer, than what is made up.
SHORTER, LONGER = 0.01, 0.01


def draw_sources(data: TrainingData, count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(direction, source) so many times, directions in the proportion of the data's pairs, no source twice.

    Reads the files once; memory holds their sources. Raises StudyError for a language without spaces between words, and
    where the sources are too few to make so many of.
    """
    if count < 1:
        raise StudyError(f"count is {count}; it must be at least 1")
    pairs: Counter[str] = Counter()
    sources: dict[str, dict[str, None]] = defaultdict(dict)
    for example in examples(data, Counter(), sources_alone=True):
        pairs[example.langs] += 1
        sources[split_pair(example.langs)[0]][normalise_text(example.source)] = None
    if not pairs:
        raise StudyError(f"the training data has no source in {', '.join(data.langs)}; name other files or directions")
    for language in sources:
        if script_of(language) in UNSPACED:
            raise StudyError(
                f"sources can't be made up in {language}, which sets no spaces between words; leave it out"
            )
    draw = random.Random(seed)
    made = {language: sentences(list(known), draw) for language, known in sources.items()}
    for langs in draw.choices(sorted(pairs), [pairs[langs] for langs in sorted(pairs)], k=count):
        yield langs, next(made[split_pair(langs)[0]])


def write_made_up(data: TrainingData, count: int, out: Path, seed: int = 0) -> None:
    """What `draw_sources` gives, as JSON lines with an empty `ref`; the same errors."""
    rows = [{"src": source, "ref": "", "langs": langs} for langs, source in draw_sources(data, count, seed)]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def sentences(known: Sequence[str], draw: random.Random) -> Iterator[str]:
    """Sentences like these, none of them, none twice, without end; raises StudyError when no more are found."""
    follows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for words in map(str.split, known):
        padded = ["", "", *words, ""]
        for one, two, three in zip(padded, padded[1:], padded[2:], strict=False):
            follows[one, two].append(three)
    lengths = sorted(len(words) for words in map(str.split, known))
    shortest, longest = lengths[int(SHORTER * len(lengths))], lengths[-1 - int(LONGER * len(lengths))]
    seen = set(known)
    in_vain = 0
    while in_vain < MOST_IN_VAIN:
        words = _drawn(follows, longest, draw)
        made = " ".join(words)
        if not shortest <= len(words) <= longest or made in seen:
            in_vain += 1
            continue
        in_vain = 0
        seen.add(made)
        yield made
    raise StudyError(
        f"{len(seen) - len(known):,} sources are all that could be made up of {len(known):,}; ask for fewer, or name "
        "more training data"
    )


def _drawn(follows: dict[tuple[str, str], list[str]], longest: int, draw: random.Random) -> list[str]:
    """A sentence, cut where it is too long by one word."""
    words: list[str] = []
    one = two = ""
    while len(words) <= longest and (three := draw.choice(follows[one, two])):
        words.append(three)
        one, two = two, three
    return words


def main(arguments: Iterable[str]) -> int:
    parser = argparse.ArgumentParser(description="Make up sources like those of training data, for a teacher.")
    parser.add_argument("--training", action="append", required=True, help="pairs or sources; once or more")
    parser.add_argument("--langs", required=True, help="directions, such as en-de,en-fr")
    parser.add_argument("--count", type=int, required=True, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines with an empty ref")
    options = parser.parse_args(list(arguments))
    try:
        data = training_data([(path, 1.0) for path in options.training], options.langs.split(","), skip_bad_rows=True)
        write_made_up(data, options.count, options.out, options.seed)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.count:,} sources in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
