"""Damage to any file is found or harmless; no wrong answer is given, and nothing crashes."""

from __future__ import annotations


def test_one_damage_of_every_way_to_every_kind_of_file(place, sweep, figure) -> None:
    found = sweep("corruption", place / "sweep", "--each", 1)
    assert found["wrong"] == 0, found["first_wrong"]
    assert found["trials"] > 90
    figure(f"corruption: {found['trials']} damaged files, {found['outcomes']}")
