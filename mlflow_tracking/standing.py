"""How MLflow shows where a trial stands beside the frontier: by the run's colour in tables and charts, and by the first
sentence of its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlflow_tracking.experiment import DESCRIPTION_TAG

# What the UI draws a run in, as of 3.17; without it, it takes one of a few by the run's id.
COLOUR_TAG = "mlflow.runColor"
# Of Okabe and Ito's palette, which colour-blind readers tell apart (https://jfly.uni-koeln.de/color/), and a grey.
COLOURS = {"frontier": "#0072B2", "not told apart": "#56B4E9", "kept off": "#D55E00", "beaten": "#9AA3AF"}
# Plain: charts show it, as it is, under the mouse.
HEAD = "Standing: "
# MLflow takes tags of up to 8,000 bytes (https://mlflow.org/docs/latest, "Set tag"); some characters take several.
LIMIT = 6000


def standing_tags(place: str, said: str, notes: Sequence[str]) -> dict[str, str]:
    """The tags that show where a trial stands. place: a key of COLOURS. said: the same in words. notes: what the trial
    noted."""
    return {COLOUR_TAG: COLOURS[place], DESCRIPTION_TAG: described(f"{HEAD}{said}.", notes)}


def described(said: str, notes: Sequence[str]) -> str:
    """A run's description, in Markdown: a sentence, if any, and the trial's notes."""
    parts = [said, "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(part for part in parts if part)[:LIMIT]


def not_others(words: Mapping[str, str], have: Mapping[str, str]) -> dict[str, str]:
    """The words, without a colour or a description that somebody else has given the run. have: the run's tags."""
    colour, said = have.get(COLOUR_TAG, ""), have.get(DESCRIPTION_TAG, "")
    # Until the trial's place was known, its notes were the whole description.
    is_ours = said.startswith(HEAD) or words.get(DESCRIPTION_TAG, "").endswith(said)
    others = {COLOUR_TAG} if colour and colour not in COLOURS.values() else set()
    others |= set() if is_ours else {DESCRIPTION_TAG}
    return {name: word for name, word in words.items() if name not in others}
