"""Whatever the operating system does to a call, no request is lost and no half state answers."""

from __future__ import annotations

import pytest


def test_a_spread_of_calls_is_struck_in_every_way(library, place, sweep, figure) -> None:
    found = sweep("kill", library, place / "sweep", "--stride", 60)
    assert found["wrong"] == 0, found["first_wrong"]
    assert found["trials"] > 60
    assert {"write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate64"} <= set(
        found["struck_calls"]
    )
    figure(f"system calls: {found['trials']} struck of {sum(found['steps'].values())} in 8 ways")


@pytest.mark.parametrize(
    ("fault", "kind", "action"),
    [
        ("a generation is published before its blobs are there", "kill after", "add"),
        ("superseded files are erased before the pointer moves", "kill after", "forget"),
        ("a sync that failed is tried again", "EIO", "add"),
    ],
)
def test_the_sweep_can_fail(library, place, sweep, fault, kind, action) -> None:
    arguments = ("--stride", 5, "--kinds", kind, "--actions", action)
    found = sweep("kill", library, place / "sweep", *arguments, "--fault", fault)
    assert found["wrong"] > 0
