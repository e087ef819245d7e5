"""A recorded table as the product's search sees it, and how well the product tells its options that are not probed."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.benches.search_replay.recording import DESIGNS, QUANTIZERS
from orchestrator.benches.search_replay.table import each_option_alone, load
from orchestrator.benches.search_replay.table_rows import TableRows
from orchestrator.search.guidance import Guidance
from orchestrator.surrogate.rows import Rows
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import GPTQ, QuantizeEmbeddings
from tests.support.search_tables import AXES, TABLE, row


def test_rows_are_known_by_options_and_steps() -> None:
    rows: Rows = TableRows(TABLE)
    at = row(2, "gptq4", 8)
    assert rows.choices(at) == {
        "layers": 2,
        "quantizer": "gptq",
        "quantizer.bits": 4,
        "embeddings.bits": 8,
    }
    assert rows.steps(at) == (RemoveLayers(count=2, by="greedy"), GPTQ(bits=4), QuantizeEmbeddings(bits=8))
    assert rows.steps(0) == ()
    assert rows.choices(row(0, "mixed3.5", 16))["mixed.bits"] == 3.5
    assert rows.alone("quantizer", AXES["quantizer"].index("gptq4")) == row(0, "gptq4", 16)
    assert rows.alone("quantizer", 0) is None
    found = TableRows(TABLE)
    assert [found.row(found.steps(each)) for each in range(TABLE.rows)] == list(range(TABLE.rows))


@pytest.mark.parametrize("name", DESIGNS)
def test_every_row_of_a_recorded_table_has_steps_of_its_own(name: str) -> None:
    table = load(DESIGNS[name].recorded)
    rows = TableRows(table)
    assert len({rows.steps(at) for at in range(table.rows)}) == table.rows


@pytest.mark.parametrize("name", DESIGNS)
def test_what_is_not_probed_is_told_about_as_it_was_recorded(name: str) -> None:
    """8 bits to within a factor of 2, mixed widths to within a quarter."""
    table = load(DESIGNS[name].recorded)
    rows = TableRows(table)
    guidance = Guidance(rows, int(table.bytes[table.baseline]), 0.5)
    nats = np.nanmean(table.kl, axis=1)
    probed = [rows.row(steps) for steps in guidance.probes]
    for at in probed:
        guidance.probed(rows.steps(at), float(nats[at]), 1.0)
    names = list(table.axes)
    told = {at: one for at, one in each_option_alone(table).items() if at not in probed}
    values = {at: table.axes[names[axis]][option] for at, (axis, option) in told.items()}
    assert {"rtn8", 8} < set(values.values()) and len(values) == 3
    for at, (axis, option) in told.items():
        found = guidance._harm_of(names[axis], rows.axes[names[axis]])[option]
        mixed = QUANTIZERS.get(values[at], {}).get("method") == "mixed"
        assert abs(np.log(found / nats[at])) < np.log(1.25 if mixed else 2.0)
