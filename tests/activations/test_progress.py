from __future__ import annotations

import io
import sys

import pytest

from shardgraph.activations.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_share_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("Encoding") as show:
        show(4, 10, 4)
        show(5, 10, 4)
        show(10, 10, 4)
    text = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "Encoding: 100%" in text
    assert "10/10" in text
    assert "images/s" in text


def test_nothing_is_drawn_into_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar("Encoding") as show:
        show(1, 1, 0)
    assert capfd.readouterr() == ("", "")


def test_a_bar_that_never_began() -> None:
    with progress_bar("Encoding"):
        pass
