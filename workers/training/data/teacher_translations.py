"""Sequence-level data: the teacher's own translations of the training sources, as targets for a student.

Kim and Rush 2016, https://aclanthology.org/D16-1139. Only as many sources are translated as the budget reads, in the
order in which training reads them; every chunk of them is kept, so that a larger budget goes on where a smaller ended.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from search_spaces.candidate import digest_of
from workers.calibration.sequences import LONGEST
from workers.reading.segments import Segment
from workers.runtime.artefact_store import ArtefactStore
from workers.scoring.sanity import IN_WORDS, failed_checks
from workers.training.data.pairs_file import PairsWriter, pairs_writer
from workers.training.data.sampling import draws, rows_of
from workers.training.data.tokenized_pairs import TokenizedPairs, add_all
from workers.translation.decoding import Decoding
from workers.translation.prompts import Prompt

TRANSLATIONS = "translations.jsonl"
# Draws that are translated, and kept, at a time.
CHUNK = 1024
# Raised when the same sources would give other translations, or others would be dropped.
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherModel:
    """Who translates, and how."""

    folder: Path
    """The teacher's folder."""
    key: str
    """Names the content of the folder."""
    prompt: Prompt
    """The prompt that the teacher is given."""
    decoding: Decoding
    """How the teacher translates."""
    device: torch.device
    """Where the teacher runs."""
    examples: Sequence[Segment] = ()
    """Examples of a few-shot prompt."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""

    def identity(self) -> dict[str, Any]:
        """What decides its translations."""
        return {
            "teacher": self.key,
            "prompt": self.prompt.key,
            "examples": [[one.langs, one.source, one.references[0]] for one in self.examples],
            "max_new_tokens": self.decoding.max_new_tokens,
            "beams": self.decoding.beams,
            "dtype": "bfloat16" if self.device.type == "cuda" else "float32",
            "version": VERSION,
        }


@dataclass(frozen=True, slots=True)
class Translation:
    """What the teacher made of a source. failed: the sanity checks that speak against it, none where it is kept."""

    text: str
    failed: tuple[str, ...]


Translate = Callable[[Sequence[Segment]], list[Translation]]


def teacher_translations(
    pairs: TokenizedPairs,
    teacher: TeacherModel,
    tokenizer: Any,
    tokenizer_key: str,
    store: Path,
    *,
    tokens: int = 0,
    longest: int = LONGEST,
    seed: int = 0,
    batch: int = 1,
    report: Callable[[int, int], None] = lambda done, of: None,
    chunk: int = CHUNK,
) -> TokenizedPairs:
    """The pairs with the teacher's translations as targets, in the order in which training reads them.

    tokenizer, tokenizer_key: the student's. tokens: the training budget; 0 is as many draws as there are pairs. seed:
    of the training, which decides the order. batch: sequences of an optimizer step; the last step, which is whole,
    finds the rows that a larger budget finds there. report: told the tokens made and the budget. What fails a sanity
    check is dropped and counted in `left_out`. The result's digest is the same for every budget, and a larger one
    begins with the same sequences. The teacher is loaded only for what the store does not have. Raises StudyError when
    no translation is left.
    """
    budget = pairs.budget(tokens)
    identity = {"pairs": pairs.digest, "seed": seed, "chunk": chunk, "tokenizer": tokenizer_key, "longest": longest}
    digest = digest_of({**identity, **teacher.identity()})
    kept = ArtefactStore(store)

    def build(folder: Path) -> dict[str, Any]:
        counts: Counter[str] = Counter(pairs.left_out)
        turns: list[int] = []
        # Tokens of the budget, how many draws there were, and how many turns all steps take.
        spent = draws_seen = 0
        needed: int | None = None
        rows: dict[int, int | None] = {}
        translate = _kept_translations(teacher, kept)
        kinds = [(stratum.langs, stratum.weight) for stratum in pairs.strata]
        report(0, budget)
        with pairs_writer(folder, kinds) as writer:
            for drawn in _chunks(pairs, chunk, seed):
                new = [row for row in dict.fromkeys(drawn) if row not in rows]
                if not new and not writer.lengths and len(rows) == len(pairs):
                    break
                rows |= _added(
                    writer,
                    pairs,
                    new=new,
                    translate=translate,
                    prompt=teacher.prompt,
                    tokenizer=tokenizer,
                    longest=longest,
                    counts=counts,
                )
                for row in map(rows.__getitem__, drawn):
                    draws_seen += 1
                    if row is not None:
                        turns.append(row)
                        spent += writer.lengths[row] if needed is None else 0
                    if needed is None and turns and (spent >= budget if tokens else draws_seen >= len(pairs)):
                        needed = -(-len(turns) // batch) * batch
                if needed is not None and len(turns) >= needed:
                    report(budget, budget)
                    break
                report(min(spent, budget), budget)
            return writer.finish(digest, counts, pairs.held_out, (turns, spent))

    made = kept.get(f"sequences-{digest}-{tokens}-{batch}", build).path
    if teacher.device.type == "cuda":
        torch.cuda.empty_cache()
    return TokenizedPairs(made)


def _chunks(pairs: TokenizedPairs, chunk: int, seed: int) -> Iterator[list[int]]:
    """The rows that training draws, a chunk at a time, without end."""
    first = 0
    while True:
        strata, ordinals = draws(pairs.shares, first, chunk, seed)
        yield [int(row) for row in rows_of(pairs, strata, ordinals, seed)]
        first += chunk


def _added(
    writer: PairsWriter,
    pairs: TokenizedPairs,
    new: Sequence[int],
    translate: Translate,
    prompt: Prompt,
    tokenizer: Any,
    longest: int,
    counts: Counter[str],
) -> dict[int, int | None]:
    """Translate rows of `pairs` and write what is kept: row -> its new row, None where it is dropped."""
    segments = [pairs.segment(row) for row in new]
    made = translate(segments) if segments else []
    for translation in made:
        for check in translation.failed[:1]:
            counts[f"teacher translations that {IN_WORDS[check]}"] += 1
    sound = [place for place, translation in enumerate(made) if not translation.failed]
    targets = [_with_target(segments[place], made[place].text) for place in sound]
    weights = [pairs.weight_of(new[place]) for place in sound]
    added: list[int | None] = []
    if targets:
        added = add_all(
            writer, targets, weights=weights, tokenizer=tokenizer, prompt=prompt, longest=longest, counts=counts
        )
    return {**dict.fromkeys(new), **{new[place]: row for place, row in zip(sound, added, strict=True)}}


def _kept_translations(teacher: TeacherModel, store: ArtefactStore) -> Translate:
    """Translation by way of the store; the model is loaded once, when something is not there."""
    loaded: list[Any] = []

    def translate(segments: Sequence[Segment]) -> list[Translation]:
        content = [[segment.langs, segment.source, segment.references[0]] for segment in segments]
        key = digest_of({**teacher.identity(), "segments": content})

        def build(folder: Path) -> dict[str, Any]:
            if not loaded:
                loaded.append(_translator(teacher))
            hypotheses = loaded[0](segments)
            made = [
                Translation(one.text, failed_checks(segment, one.text, one.truncated))
                for segment, one in zip(segments, hypotheses, strict=True)
            ]
            with (folder / TRANSLATIONS).open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in made)
            return {"sources": len(made), "dropped": dict(Counter(one.failed[0] for one in made if one.failed))}

        found = store.get(f"translations-{key}", build).path / TRANSLATIONS
        with found.open(encoding="utf-8") as stream:
            rows = [json.loads(line) for line in stream]
        return [Translation(row["text"], tuple(row["failed"])) for row in rows]

    return translate


def _translator(teacher: TeacherModel) -> Any:
    from workers.checkpoints.model_files import context_length, read_config
    from workers.loading.load import load_model, load_tokenizer
    from workers.translation.translator import Translator

    model = load_model(teacher.folder, str(teacher.device), teacher.trust_remote_code)
    tokenizer = load_tokenizer(teacher.folder, teacher.trust_remote_code)
    context = context_length(read_config(teacher.folder))
    return Translator(
        model=model,
        tokenizer=tokenizer,
        prompt=teacher.prompt,
        examples=teacher.examples,
        decoding=teacher.decoding,
        context=context,
    )


def _with_target(segment: Segment, text: str) -> Segment:
    return Segment(
        id=segment.id,
        langs=segment.langs,
        source=segment.source,
        references=(text,),
        doc_id=segment.doc_id,
        domain=segment.domain,
    )
