"""What was acknowledged is there after the plug was pulled."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def _power_can_be_cut() -> None:
    from sweeps.power import possible

    why_not = possible()
    if why_not:
        pytest.skip(f"NOT RUN: no power can be cut here, {why_not}")


@pytest.mark.usefixtures("_power_can_be_cut")
def test_a_spread_of_power_cuts_loses_nothing(library, place, sweep, figure) -> None:
    found = sweep("power", library, place / "sweep", "--stride", 45)
    assert found["wrong"] == 0, found["first_wrong"]
    assert found["trials"] > 12
    figure(f"power cuts: {found['trials']}, nothing lost")
