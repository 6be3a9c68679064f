"""Hashes are fixed for ever: another version that gave others would move every sample."""

from __future__ import annotations

import hashlib

import pytest

from shardgraph import identity
from shardgraph.identity import SampleId, digest_chunks, digest_json, digest_rows


def test_what_decides_bits_has_not_changed() -> None:
    """Known answers: RFC 7693 keyed hashes, the purpose in the ``person`` field."""
    expected = hashlib.blake2b(
        b"alice", digest_size=16, key=(7).to_bytes(16, "big"), person=b"shard".ljust(16, b"\0")
    )
    assert identity.shard_position(7, "alice") == int(expected.hexdigest(), 16)
    assert identity.order_key(7, SampleId("a")).hex() == "4c5a1d54ede328fe45756fa1d4c3082d"
    assert identity.node_seed(7, 3) == 3538930012905123940
    assert identity.derived_seed(7, "graph") == 4582428883987570594


def test_purposes_seeds_and_names_are_kept_apart() -> None:
    made = [
        identity.order_key(seed, SampleId(name)) for seed in (-1, 0, 1) for name in ("", "a", "ä")
    ]
    assert len(set(made)) == len(made)
    assert identity.node_seed(0, 1) != identity.derived_seed(0, "1")
    assert all(0 <= identity.node_seed(seed, 0) < 2**63 for seed in range(64))


def test_a_name_that_is_no_text_still_has_a_place() -> None:
    assert identity.order_key(0, SampleId("\udcff")) != identity.order_key(0, SampleId("?"))


def test_rows_are_told_apart_however_they_are_cut() -> None:
    one = [["a", "b"], ["c", 1, None, 0.5]]
    others = [
        [["a", "b", "c", 1, None, 0.5]],
        [["a"], ["b"], ["c", 1, None, 0.5]],
        [["a", "b"], ["c", "1", None, 0.5]],
        [["a", "b"], ["c", 1, "null", 0.5]],
        [["c", 1, None, 0.5], ["a", "b"]],
        [['a","b'], ["c", 1, None, 0.5]],
        [["a\nb"], ["c", 1, None, 0.5]],
    ]
    assert len({digest_rows(rows) for rows in (one, *others)}) == 1 + len(others)
    assert digest_rows(one) == digest_rows(tuple(row) for row in one)
    lines = [b'["a","b"]\n', b'["c",1,null,0.5]\n']
    assert digest_rows(one) == digest_chunks(lines) == hashlib.sha256(b"".join(lines)).hexdigest()


def test_what_is_no_number_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest_rows([[float("nan")]])


def test_json_has_one_digest_whatever_its_order() -> None:
    assert digest_json({"b": 1, "a": [1.0, "ü"]}) == digest_json({"a": [1, "ü"], "b": 1})
