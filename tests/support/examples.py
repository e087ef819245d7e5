"""What many tests need: a segment, a measurement, a ledger's trial, a checkpoint's table, the frontier's definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.statistics.frontier import Objectives
from search_spaces.candidate import BaseModel, Candidate
from search_spaces.methods.registry import Step
from search_spaces.outcome import Footprint, Measurement, Outcome, Score
from search_spaces.sizes.tensor_table import Checkpoint, Tensor, header_size
from workers.reading.segments import DataSet, Segment, segments_digest

BASE = BaseModel("example/model", "0123abc")


def segment(
    source: str = "A dog runs.",
    *references: str,
    langs: str = "en-de",
    id: str = "1",
    doc: str | None = None,
    human_score: float | None = None,
) -> Segment:
    return Segment(id, langs, source, references or ("Ein Hund rennt.",), doc or id, "", human_score)


def dataset(segments: Sequence[Segment], name: str = "made.jsonl") -> DataSet:
    return DataSet(name, "made", tuple(segments), segments_digest(segments))


def measurement(
    quality: float | Mapping[str, float] = 50.0, size: int = 1000, metrics: Sequence[str] = ("chrf", "bleu")
) -> Measurement:
    by_pair = quality if isinstance(quality, Mapping) else {"en-de": quality}
    return Measurement(
        scores={metric: {pair: Score(value, "signature") for pair, value in by_pair.items()} for metric in metrics},
        footprint=Footprint(size, 10, 1.0),
        seconds={"translate": 1.5},
        segments=2,
        tokens=30,
    )


def trial(outcome: Outcome, steps: tuple[Step, ...] = (), number: int = 0, split: str = "dev") -> dict[str, Any]:
    """What a worker hands to the ledger."""
    return {
        "number": number,
        "candidate": Candidate(BASE, steps).to_json(),
        "split": split,
        "choices": {},
        "predicted_bytes": 1000,
        "outcome": outcome.to_json(),
        "attempt": 1,
        "started": "2026-01-01T00:00:00+00:00",
        "ended": "2026-01-01T00:00:09+00:00",
        "worker": "host:1",
    }


def llama_table(layers: int = 4, hidden: int = 128, ffn: int = 256, vocabulary: int = 500) -> Checkpoint:
    """The tensor table of a Llama of this shape, in bfloat16 and with its own head."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        stem = f"model.layers.{layer}"
        shapes |= {f"{stem}.self_attn.{name}_proj.weight": (hidden, hidden) for name in "qkvo"}
        shapes |= {f"{stem}.mlp.{name}_proj.weight": (ffn, hidden) for name in ("gate", "up")}
        shapes |= {f"{stem}.mlp.down_proj.weight": (hidden, ffn), f"{stem}.input_layernorm.weight": (hidden,)}
    shapes |= {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}
    table = Checkpoint({name: Tensor("BF16", shape) for name, shape in shapes.items()}, {}, 5000, 0)
    return replace(table, header_bytes=header_size(table.tensors))


def frontier_by_definition(points: Sequence[Objectives]) -> list[bool]:
    """Pair by pair: kept unless some other point is no worse in every objective and better in one."""

    def ranks(one: Objectives, other: Objectives) -> list[float]:
        """How much better one is in each."""
        return [one.quality - other.quality, other.bytes - one.bytes, other.cost - one.cost]

    return [
        not any(min(better := ranks(other, point)) >= 0 and max(better) > 0 for other in points) for point in points
    ]
