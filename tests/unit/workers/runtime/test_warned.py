"""What our loggers warn of while work is under way: heard by who works, told once, and written where it was before."""

from __future__ import annotations

import logging
import threading

import pytest

from workers.runtime.warned import Warnings, heard_by

ours = logging.getLogger("workers.decoder.decode")


def test_each_warning_of_ours_is_heard_once_in_its_order_from_any_thread() -> None:
    told: list[str] = []
    warnings = Warnings(told.append, ("known before",))
    with heard_by(warnings):
        ours.warning("going on with %d sequences", 8)
        logging.getLogger("search_spaces.predicted_size").error("an error too")
        logging.getLogger("transformers").warning("a library's")
        ours.info("no warning")
        thread = threading.Thread(target=ours.warning, args=("from a stream",))
        thread.start()
        thread.join()
        ours.warning("going on with 8 sequences")
        ours.warning("known before")
    ours.warning("afterwards")
    assert told == ["going on with 8 sequences", "an error too", "from a stream"]
    assert warnings.texts == ("known before", *told)


def test_who_works_within_another_is_heard_by_both_and_an_error_ends_the_hearing() -> None:
    outer, inner = Warnings(), Warnings()
    with heard_by(outer):
        with pytest.raises(ValueError, match="ended"), heard_by(inner):
            ours.warning("within")
            raise ValueError("ended")
        ours.warning("after")
    assert (outer.texts, inner.texts) == (("within", "after"), ("within",))


def test_a_terminal_that_saw_warnings_sees_each_once_still(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with heard_by(Warnings()), heard_by(Warnings()):
        ours.warning("said in the terminal")
    ours.warning("as before")
    assert capsys.readouterr().err == "said in the terminal\nas before\n"
