"""The tree against the recursive definition of RFC 9162, and proofs against every change."""

from __future__ import annotations

import time
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardgraph.errors import VerificationError
from shardgraph.store.merkle import (
    Frontier,
    Tree,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)


def naive_root(entries: list[bytes]) -> bytes:
    """MTH as RFC 9162, section 2.1.1 writes it."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


def naive_path(m: int, entries: list[bytes]) -> list[bytes]:
    """PATH(m, D_n), section 2.1.3.1."""
    if len(entries) == 1:
        return []
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m < k:
        return [*naive_path(m, entries[:k]), naive_root(entries[k:])]
    return [*naive_path(m - k, entries[k:]), naive_root(entries[:k])]


def naive_subproof(m: int, entries: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF(m, D_n, b), section 2.1.4.1."""
    if m == len(entries):
        return [] if whole else [naive_root(entries)]
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, entries[:k], whole), naive_root(entries[k:])]
    return [*naive_subproof(m - k, entries[k:], False), naive_root(entries[:k])]


def entries_of(count: int) -> list[bytes]:
    return [f"entry {number}".encode() for number in range(count)]


def tree_of(count: int) -> Tree:
    return Tree([leaf_hash(entry) for entry in entries_of(count)])


def test_the_empty_list_and_a_single_entry_have_the_hashes_of_the_standard() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Tree([]).root().hex() == empty
    # RFC 6962 / 9162 test vector: the leaf hash of the empty entry
    leaf = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"").hex() == leaf
    assert Tree([leaf_hash(b"")]).root().hex() == leaf


def test_the_seven_entry_example_of_the_standard() -> None:
    """Section 2.1.5: proofs in the tree of d0..d6, by the names of its nodes."""
    a, b, c, d, e, f, j = (leaf_hash(entry) for entry in entries_of(7))
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, tail = node_hash(g, h), node_hash(i, j)
    tree = tree_of(7)
    assert tree.root() == node_hash(k, tail)
    assert tree.inclusion_proof(0) == (b, h, tail)
    assert tree.inclusion_proof(3) == (c, g, tail)
    assert tree.inclusion_proof(4) == (f, j, k)
    assert tree.inclusion_proof(6) == (i, k)
    assert tree.consistency_proof(3) == (c, d, g, tail)
    assert tree.consistency_proof(4) == (tail,)
    assert tree.consistency_proof(6) == (i, j, k)


@pytest.mark.parametrize("count", [*range(34), 63, 64, 65])
def test_roots_and_proofs_are_those_of_the_definition(count: int) -> None:
    entries, tree, frontier = entries_of(count), tree_of(count), Frontier()
    for entry in entries:
        frontier.append(leaf_hash(entry))
    assert tree.root() == frontier.root() == naive_root(entries)
    for index in range(count):
        proof = tree.inclusion_proof(index)
        assert list(proof) == naive_path(index, entries)
        verify_inclusion(leaf_hash(entries[index]), index, count, proof, tree.root())
    for old in range(1, count + 1):
        proof = tree.consistency_proof(old)
        assert list(proof) == naive_subproof(old, entries, True)
        verify_consistency(old, count, tree.root(old), tree.root(), proof)


@given(st.data())
def test_no_altered_inclusion_proof_is_accepted(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    index = data.draw(st.integers(0, count - 1))
    tree, leaf = tree_of(count), leaf_hash(entries_of(count)[index])
    proof = list(tree.inclusion_proof(index))
    step = data.draw(st.integers(0, len(proof)))
    altered = data.draw(
        st.sampled_from(["leaf", "index", "flip", "drop", "extra", "root"] if proof else ["leaf"])
    )
    root = tree.root()
    if altered == "leaf":
        leaf = leaf_hash(b"another")
    elif altered == "index":
        index = (index + data.draw(st.integers(1, count - 1))) % count
    elif altered == "flip":
        step %= len(proof)
        proof[step] = bytes([proof[step][0] ^ 1]) + proof[step][1:]
    elif altered == "drop":
        del proof[step % len(proof)]
    elif altered == "extra":
        proof.insert(step, root)
    else:
        root = tree.root(count - 1)
    with pytest.raises(VerificationError):
        verify_inclusion(leaf, index, count, proof, root)


@given(st.integers(2, 40), st.data())
def test_no_altered_consistency_proof_is_accepted(count: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, count - 1))
    tree = tree_of(count)
    proof = list(tree.consistency_proof(old))
    step = data.draw(st.integers(0, len(proof) - 1))
    before, after = tree.root(old), tree.root()
    altered = data.draw(st.sampled_from(["flip", "drop", "extra", "old", "new", "same"]))
    if altered == "flip":
        proof[step] = bytes([proof[step][0] ^ 1]) + proof[step][1:]
    elif altered == "drop":
        del proof[step]
    elif altered == "extra":
        proof.insert(step, leaf_hash(b"x"))
    elif altered == "old":
        before = leaf_hash(b"x")
    elif altered == "new":
        after = leaf_hash(b"x")
    else:
        old = count
    with pytest.raises(VerificationError):
        verify_consistency(old, count, before, after, proof)


@pytest.mark.parametrize("index", [-1, 5])
def test_an_entry_that_is_not_there_has_no_proof(index: int) -> None:
    with pytest.raises(VerificationError, match="5 entries"):
        tree_of(5).inclusion_proof(index)
    with pytest.raises(VerificationError):
        verify_inclusion(leaf_hash(b""), index, 5, (), b"")


@pytest.mark.parametrize("old", [0, 6])
def test_sizes_that_cannot_be_have_no_proof(old: int) -> None:
    with pytest.raises(VerificationError):
        tree_of(5).consistency_proof(old)
    with pytest.raises(VerificationError):
        verify_consistency(old, 5, b"", b"", ())


@pytest.mark.parametrize(("size", "peaks"), [(1, []), (3, [b"x" * 32]), (1, [b"x"]), (-1, [])])
def test_a_frontier_that_cannot_be_is_refused(size: int, peaks: list[bytes]) -> None:
    with pytest.raises(VerificationError):
        Frontier(size, peaks)


def test_ten_thousand_entries_are_proved_and_verified_in_three_seconds() -> None:
    start = time.perf_counter()
    leaves = [leaf_hash(entry) for entry in entries_of(10_000)]
    tree = Tree(leaves)
    for index, leaf in enumerate(leaves):
        verify_inclusion(leaf, index, tree.size, tree.inclusion_proof(index), tree.root())
    assert time.perf_counter() - start < 3
