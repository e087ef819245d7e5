"""A space's rows: each a candidate that the sampler could have chosen too, and its bytes as they are predicted one by
one."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from search_spaces.candidate import Candidate, refuse_idle_training
from search_spaces.methods.trainers import Finetune
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.spaces.choices import chosen_steps, every_choice
from search_spaces.spaces.enumeration import Rows, enumerate_rows
from search_spaces.spaces.offers import offer_for
from search_spaces.spaces.registry import SPACES
from search_spaces.spaces.training_suggestions import TRAINED
from tests.support.examples import BASE, llama_table
from workers.checkpoints.base_model import open_base

SHIPPED = "models/captions"


def checkpoint() -> Checkpoint:
    return open_base(SHIPPED, None, False, lambda *_: None).checkpoint


def rows_of(space: str, table: Checkpoint, training: bool = False) -> Rows:
    found = enumerate_rows(SPACES[space], offer_for(table, training), table)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return checkpoint()


KNOWN_WHOLE = [name for name, space in SPACES.items() if space.axes is not None]


@pytest.mark.parametrize("space", KNOWN_WHOLE)
@pytest.mark.parametrize("training", [False, True])
def test_bytes_are_those_predicted_one_by_one(shipped: Checkpoint, space: str, training: bool) -> None:
    found = rows_of(space, shipped, training)
    for row in random.Random(0).sample(range(len(found.bytes)), min(len(found.bytes), 40)):
        exact = predicted_bytes(shipped, found.steps(row))
        assert abs(int(found.bytes[row]) - exact) <= 0.0005 * exact


def test_every_option_is_in_a_row_and_every_row_is_another_candidate(shipped: Checkpoint) -> None:
    found = rows_of("joint", shipped)
    assert {axis: len(options) for axis, options in found.axes.items()} == {
        "vocabulary": 6, "layers": 3, "heads": 2, "channels": 4, "quantizer": 9, "embeddings": 3
    }  # fmt: skip
    assert len(found.bytes) == 6 * 3 * 2 * 4 * 9 * 3
    digests = {Candidate(BASE, found.steps(row)).digest for row in range(0, len(found.bytes), 7)}
    assert len(digests) == len(range(0, len(found.bytes), 7))


def test_all_spaces_but_that_of_students_are_known_whole(shipped: Checkpoint) -> None:
    assert set(SPACES) - set(KNOWN_WHOLE) == {"student"}
    sizes = {space: len(rows_of(space, shipped).bytes) for space in KNOWN_WHOLE}
    # 12 quantizers × 3 widths of embeddings; 10 budgets, with the embeddings and without; 6 shares × 3 widths.
    assert sizes | {"joint": 0} == {
        "bit-width": 12 * 3, "mixed": 1 + 10 * 2, "sparsity": (1 + 6) * 3, "depth": 1 + 2, "width": 2 * 4,
        "vocabulary": 6 * 4 * 3, "joint": 0,
    }  # fmt: skip


@pytest.mark.parametrize("space", KNOWN_WHOLE)
def test_the_first_option_of_every_axis_is_the_baseline(shipped: Checkpoint, space: str) -> None:
    found = rows_of(space, shipped)
    assert found.steps(0) == ()
    assert int(found.bytes[0]) == shipped.bytes
    assert all(found.alone(axis, 0) == 0 for axis in found.axes)


@pytest.mark.parametrize("space", KNOWN_WHOLE)
def test_an_option_by_itself_has_one_step(shipped: Checkpoint, space: str) -> None:
    found = rows_of(space, shipped)
    for axis, options in found.axes.items():
        for option in range(1, len(options)):
            row = found.alone(axis, option)
            assert row is not None
            assert len(found.steps(row)) == 1


def test_what_the_model_cannot_take_is_in_no_row() -> None:
    # One key-value group, one layer and no tokenizer: nothing but widths is left.
    table = replace(llama_table(), tokenizer_bytes=0)
    found = rows_of("joint", table)
    assert "vocabulary" not in found.axes
    for row in range(len(found.bytes)):
        predicted_bytes(table, found.steps(row))


@pytest.mark.parametrize("space", KNOWN_WHOLE)
def test_choices_are_a_samplers(shipped: Checkpoint, space: str) -> None:
    found = rows_of(space, shipped)
    for row in random.Random(1).sample(range(1, len(found.bytes)), min(len(found.bytes) - 1, 20)):
        steps = SPACES[space].steps(_Fixed(found.choices(row)), found.offer)
        assert steps == found.steps(row)


def test_what_changes_nothing_is_the_baseline_where_the_space_has_no_such_choice(shipped: Checkpoint) -> None:
    found = rows_of("depth", shipped)
    assert [len(found.steps(row)) for row in range(3)] == [0, 1, 1]
    assert all(steps for _, steps in every_choice(SPACES["depth"], found.offer))


def test_anchors_are_rows_but_for_methods_that_are_left_to_the_sampler(shipped: Checkpoint) -> None:
    for space in ("bit-width", "mixed", "sparsity", "depth", "width"):
        found = rows_of(space, shipped)
        rows = {found.steps(row) for row in range(len(found.bytes))}
        anchors = [chosen_steps(SPACES[space], choices, found.offer) for choices in SPACES[space].anchors(found.offer)]
        others = {step.name for steps in anchors if steps not in rows for step in steps[:1]}
        assert others == {"bit-width": {"bitsandbytes", "hqq"}, "sparsity": {"wanda", "magnitude"}}.get(space, set())


def test_a_training_ends_a_chain_and_costs_no_byte(shipped: Checkpoint) -> None:
    found = rows_of("joint", shipped, training=True)
    names = list(found.axes)
    at = names.index("training")
    trained = [row for row in range(len(found.bytes)) if found.options[row, at]]
    # Seven trainings of what is quantized, six of what is only pruned, and none of what neither is.
    pruned = 6 * 3 * 2 * 4
    assert len(found.bytes) == pruned * 9 * 3 + 3 * (7 * pruned * 8 + 6 * (pruned - 1))
    for row in random.Random(2).sample(trained, 60):
        steps = found.steps(row)
        kinds = [step.kind for step in steps]
        assert kinds.count("trainer") == 1
        assert kinds[kinds.index("trainer") + 1 :] in ([], ["embedding quantizer"])
        refuse_idle_training(steps)
        Candidate(BASE, steps)
        untrained = found.options[row].copy()
        untrained[at] = 0
        assert found.bytes[row] == found.bytes[(found.options == untrained).all(axis=1)][0]


def test_targets_by_beams_go_with_a_trimmed_vocabulary(shipped: Checkpoint) -> None:
    found = rows_of("joint", shipped, training=True)
    at = {option[TRAINED]: number for number, option in enumerate(found.axes["training"])}
    wanted = {"vocabulary": 2, "quantizer": 4, "training": at["4M by beams"]}
    row = (found.options == [wanted.get(name, 0) for name in found.axes]).all(axis=1).argmax()
    trainer = found.steps(int(row))[-1]
    assert isinstance(trainer, Finetune)
    assert (trainer.loss, trainer.beams, trainer.tokens) == ("forward_kl", 4, 4_000_000)


def test_a_space_without_axes_has_no_rows(shipped: Checkpoint) -> None:
    assert enumerate_rows(SPACES["student"], offer_for(shipped, training=True), shipped) is None


class _Fixed:
    """A source of given choices that offers what it is asked for."""

    def __init__(self, choices: dict[str, object]) -> None:
        self.choices = choices

    def suggest_categorical(self, name: str, choices: object) -> object:
        assert self.choices[name] in list(choices)  # type: ignore[call-overload]
        return self.choices[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        value = self.choices[name]
        assert isinstance(value, int)
        assert low <= value <= high
        return value
