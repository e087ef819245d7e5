"""What there is: every entry of the registries on a line, and a method's parameters with their docs."""

from __future__ import annotations

import pytest

from orchestrator import cli
from orchestrator.commands import listing
from search_spaces.errors import StudyError
from search_spaces.methods.parameter_docs import first_sentence, parameter_docs
from search_spaces.methods.recipes import RECIPES
from search_spaces.methods.registry import METHODS
from search_spaces.spaces.registry import SPACES
from workers.scoring.metrics import METRICS, NEURAL_METRICS


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("spaces", list(SPACES)),
        ("methods", list(METHODS)),
        ("recipes", list(RECIPES)),
        ("metrics", [*METRICS, *NEURAL_METRICS]),
    ],
)
def test_every_entry_has_a_line(what: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names
    assert all(len(line.split()) > 2 for line in lines)


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_every_method_is_told(name: str) -> None:
    docs = parameter_docs(METHODS[name])
    assert [one.name for one in docs if not one.about] == [], "a string under each field says what it is"
    shown = "\n".join(listing.method(name))
    for one in docs:
        assert f"  {one.name} (" in shown
    assert first_sentence(METHODS[name]).endswith(".")


def test_a_method_with_its_defaults_and_recipes() -> None:
    shown = "\n".join(listing.method("recover"))
    assert "  rank (int; default 16)\n    Rank of the adapter." in shown
    assert "  adapter (lora | dora | scales; default lora)" in shown
    assert "Recipes: alma-lora, low-bit-lora" in shown
    assert "  bits (int; must be given)\n    Of each weight: 8, 4, 3 or 2." in "\n".join(listing.method("gptq"))
    assert "In a study file: {method: gptq, bits: …}" in listing.method("gptq")
    assert first_sentence(METHODS["magnitude"]).startswith("The smallest weights of each output row become zero (Han")


def test_a_method_that_there_is_not() -> None:
    with pytest.raises(StudyError, match="no method is called 'gtpq'; there are rtn, hqq"):
        listing.method("gtpq")


def test_metrics_say_which_way_is_better_and_their_signatures() -> None:
    lines = {line.split()[0]: line for line in listing.metrics()}
    assert "lower is better" in lines["ter"] and "nc:6" in lines["chrf"] and "tok:13a" in lines["bleu"]
    assert "Unbabel/wmt22-comet-da" in lines["comet"] and "quality of a search" in lines["comet"]
    assert "quality of a search" not in lines["bleu"]
