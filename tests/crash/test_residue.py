"""Nothing of what was forgotten is left in any file, however often one forgets."""

from __future__ import annotations


def test_no_pattern_of_the_forgotten_is_found(place, sweep, figure) -> None:
    found = sweep("residue", place, "--forgets", 40)
    assert found["left"] == 0, found["first_left"]
    assert found["live_are_found"]
    figure(f"residue: {found['forgets']} forgets, {found['searches_for_a_pattern']} searches")


def test_the_search_can_find(place, sweep) -> None:
    fault = "the database is not rebuilt"
    assert sweep("residue", place, "--forgets", 8, "--fault", fault)["left"] > 0
