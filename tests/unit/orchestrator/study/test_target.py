"""A target as a person writes it."""

from __future__ import annotations

import pytest

from orchestrator.study.spec import spec_from_mapping
from orchestrator.study.values import Target, target_of
from search_spaces.errors import StudyError
from tests.support.studies import LEAST


@pytest.mark.parametrize(
    ("text", "target", "spelt"),
    [
        ("chrf>=99%", Target("chrf", 0.99), "chrf>=99%"),
        (" chrf >= 97.5 % ", Target("chrf", 0.975), "chrf>=97.5%"),
        ("worst_pair>=98%", Target("worst_pair", 0.98), "worst_pair>=98%"),
        ("chrf>=100%", Target("chrf", 1.0), "chrf>=100%"),
    ],
)
def test_a_target_is_read_and_spelt(text: str, target: Target, spelt: str) -> None:
    assert target_of(text, "chrf") == target
    assert str(target) == spelt
    assert target.of_worst is (target.of == "worst_pair")


@pytest.mark.parametrize(
    "text", ["", "99%", "chrf>99%", "chrf>=99", "chrf>=0%", "chrf>=101%", "chrf<=99%", "CHRF>=99%"]
)
def test_what_is_no_target_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(StudyError, match=r"it must be such as chrf>=99%"):
        target_of(text, "chrf")


def test_another_metric_than_the_quality_is_refused() -> None:
    with pytest.raises(StudyError, match=r"the study's quality is chrf: name chrf or worst_pair"):
        target_of("comet>=99%", "chrf")


def test_a_study_with_a_target_survives_json() -> None:
    spec = spec_from_mapping(LEAST | {"target": "worst_pair>=98%", "max_bytes": "2GB"})
    assert spec.aim == Target("worst_pair", 0.98)
    assert spec.max_bytes == 2_000_000_000
    assert spec_from_mapping(spec.to_json()) == spec
    assert spec_from_mapping(LEAST).aim is None


@pytest.mark.parametrize("asked", [{"target": "chrf>=99%"}, {"max_bytes": "1GB"}])
def test_a_space_that_is_not_known_whole_has_no_target(asked: dict[str, str]) -> None:
    use = "use bit-width, mixed, sparsity, depth, width, vocabulary or joint"
    with pytest.raises(StudyError, match=rf"needs a space that is known whole, and student is not; {use}"):
        spec_from_mapping(LEAST | asked | {"space": "student", "training": ["pairs.jsonl"]})


def test_a_size_that_is_none_is_refused_by_its_key() -> None:
    with pytest.raises(StudyError, match=r"max_bytes is 'big'; it must be a size such as 20GB"):
        spec_from_mapping(LEAST | {"max_bytes": "big"})
