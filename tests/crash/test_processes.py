"""Two processes with four threads each: no stale answer, no mixture, no deadlock."""

from __future__ import annotations


def test_predicting_forgetting_and_adding_at_once(place, sweep, figure) -> None:
    found = sweep("processes", place, "--seconds", 6)
    for name in ("stale", "mixed", "unlike_a_fit", "unfinished"):
        assert found[name] == 0, found
    assert found["errors"] == []
    assert found["findings"] == []
    assert found["answers"] > 10
    assert found["changes"] > 1
    figure(
        f"processes: {found['answers']} answers, {found['changes']} changes, none stale or mixed"
    )


def test_a_stale_answer_is_noticed(place, sweep) -> None:
    fault = "answers come from what was loaded before the request"
    found = sweep("processes", place, "--seconds", 4, "--fault", fault)
    assert found["stale"] > 0
