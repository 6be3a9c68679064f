"""Receipts and copies of a ledger: what holds is accepted, everything else is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from shardgraph.errors import VerificationError
from shardgraph.forgetting.proof import (
    ALWAYS_OPEN,
    MOST_BYTES,
    NOT_FITTED,
    is_ledger,
    verify_ledger,
    verify_receipt,
)
from shardgraph.forgetting.receipt import receipt_text, signed_head

MUTANTS = 10_000
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group of Ed25519 (RFC 8032, section 5.1)."""

Receipt = dict[str, Any]


def test_what_is_proved_grows_with_what_is_given(office) -> None:
    alone = verify_receipt(office.file(3))
    assert alone.statement == office.statement(3)
    assert (alone.index, alone.head.size, alone.head.key) == (3, 11, office.name)
    assert len(alone.proved) == 3
    assert NOT_FITTED in alone.not_proved
    assert set(ALWAYS_OPEN) <= set(alone.not_proved)
    with_ledger = verify_receipt(office.file(3), ledger=verify_ledger(office.ledger()))
    assert len(with_ledger.proved) == 5
    assert len(with_ledger.not_proved) == len(alone.not_proved) - 1
    with_key = verify_receipt(office.file(3), public_keys=[office.public])
    assert with_key.proved[-1] == "The key is one that you named."


@pytest.mark.parametrize("entries", [1, 2, 3, 7, 8, 9])
def test_every_receipt_of_a_ledger_of_any_size_holds(make_office, entries: int) -> None:
    office = make_office(entries=entries)
    ledger = verify_ledger(office.ledger(), public_keys=[office.public])
    for index in range(entries):
        assert verify_receipt(office.file(index), ledger=ledger).index == index


def test_an_older_receipt_holds_in_a_newer_ledger_only(make_office) -> None:
    older, newer = make_office(entries=5), make_office(entries=9)
    verify_receipt(older.file(4), ledger=verify_ledger(newer.ledger()))
    verify_ledger(newer.ledger(), older=verify_ledger(older.ledger()))
    with pytest.raises(VerificationError, match="fewer"):
        verify_receipt(newer.file(4), ledger=verify_ledger(older.ledger()))
    with pytest.raises(VerificationError, match="fewer"):
        verify_ledger(older.ledger(), older=verify_ledger(newer.ledger()))


def test_the_key_may_change_in_the_course_of_a_ledger(make_office) -> None:
    first, second = make_office("first", 4), make_office("second")
    second.entries = [*first.entries, second.entry(4), second.entry(5)]
    both = {first.name: first.public.hex(), second.name: second.public.hex()}
    ledger = verify_ledger(second.ledger(keys=both), public_keys=[first.public, second.public])
    old = {**second.receipt(1), "keys": both, "opening": first.opening(1)}
    assert verify_receipt(receipt_text(old), ledger=ledger).statement["key"] == first.name
    with pytest.raises(VerificationError, match="not among those you named"):
        verify_receipt(receipt_text(old), public_keys=[second.public])


# -- tampering --------------------------------------------------------------------------------

Tampering = Callable[[Receipt, Any], Any]
TAMPERINGS: dict[str, Tampering] = {}


def tampering(act: Tampering) -> Tampering:
    """Register a way to change a receipt; it changes what it is given, or returns bytes."""
    TAMPERINGS[act.__name__] = act
    return act


def _other(text: str) -> str:
    return ("0" if text[0] != "0" else "1") + text[1:]


for field in ("commitment", "graph", "recipe", "state_after"):

    def _change_field(receipt: Receipt, office: Any, field: str = field) -> None:
        statement = receipt["entry"]["statement"]
        statement[field] = _other(statement[field])

    TAMPERINGS[f"another_{field}"] = _change_field


@tampering
def another_generation(receipt: Receipt, office: Any) -> None:
    receipt["entry"]["statement"]["generation"] += 1


@tampering
def a_node_less(receipt: Receipt, office: Any) -> None:
    receipt["entry"]["statement"]["nodes"]["refitted"].pop()


@tampering
def another_environment(receipt: Receipt, office: Any) -> None:
    receipt["entry"]["statement"]["environment"]["torch"] = "1.0"


@tampering
def text_that_is_no_unicode(receipt: Receipt, office: Any) -> None:
    receipt["entry"]["statement"]["environment"]["torch"] = "\ud800"


@tampering
def another_signature(receipt: Receipt, office: Any) -> None:
    receipt["entry"]["signature"] = _other(receipt["entry"]["signature"])


@tampering
def a_signature_of_the_other_form(receipt: Receipt, office: Any) -> None:
    """S + L in place of S: it would fit the same equation."""
    signature = bytes.fromhex(receipt["entry"]["signature"])
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    receipt["entry"]["signature"] = (signature[:32] + scalar.to_bytes(32, "little")).hex()


@tampering
def the_signature_of_the_head(receipt: Receipt, office: Any) -> None:
    receipt["entry"]["signature"] = receipt["head"]["signature"]


@tampering
def another_opening(receipt: Receipt, office: Any) -> None:
    receipt["opening"] = _other(receipt["opening"])


@tampering
def the_opening_of_another(receipt: Receipt, office: Any) -> None:
    receipt["opening"] = office.opening(4)


@tampering
def another_place(receipt: Receipt, office: Any) -> None:
    receipt["index"] += 1


@tampering
def a_place_that_is_no_number(receipt: Receipt, office: Any) -> None:
    receipt["index"] = True


@tampering
def another_step_of_the_proof(receipt: Receipt, office: Any) -> None:
    receipt["proof"][1] = _other(receipt["proof"][1])


@tampering
def a_proof_too_short(receipt: Receipt, office: Any) -> None:
    receipt["proof"].pop()


@tampering
def a_proof_too_long(receipt: Receipt, office: Any) -> None:
    receipt["proof"].append(receipt["proof"][0])


@tampering
def a_proof_in_another_order(receipt: Receipt, office: Any) -> None:
    receipt["proof"].reverse()


@tampering
def a_larger_ledger(receipt: Receipt, office: Any) -> None:
    receipt["head"]["head"]["size"] += 1


@tampering
def another_root(receipt: Receipt, office: Any) -> None:
    receipt["head"]["head"]["root"] = _other(receipt["head"]["head"]["root"])


@tampering
def another_day(receipt: Receipt, office: Any) -> None:
    receipt["head"]["head"]["day"] = "2025-01-31"


@tampering
def another_entry_of_the_ledger(receipt: Receipt, office: Any) -> None:
    receipt["entry"] = json.loads(office.entries[4])


@tampering
def a_key_that_nobody_uses(receipt: Receipt, office: Any) -> None:
    public = bytes(32)
    receipt["keys"][hashlib.sha256(public).hexdigest()] = public.hex()


@tampering
def a_key_under_another_name(receipt: Receipt, office: Any) -> None:
    receipt["keys"][office.name] = _other(office.public.hex())


@tampering
def no_key(receipt: Receipt, office: Any) -> None:
    receipt["keys"] = {}


@tampering
def a_field_more(receipt: Receipt, office: Any) -> None:
    receipt["entry"]["statement"]["samples"] = []


@tampering
def a_field_less(receipt: Receipt, office: Any) -> None:
    del receipt["proof"]


@tampering
def another_format(receipt: Receipt, office: Any) -> None:
    receipt["format"] = "shardgraph receipt 1"


@tampering
def a_field_twice(receipt: Receipt, office: Any) -> bytes:
    return receipt_text(receipt).replace(b'  "index"', b'  "index": 3,\n  "index"')


@tampering
def another_spelling(receipt: Receipt, office: Any) -> bytes:
    return receipt_text(receipt).replace(b'": ', b'" : ')


@tampering
def something_behind_it(receipt: Receipt, office: Any) -> bytes:
    return receipt_text(receipt) + b"\n"


@tampering
def cut_off(receipt: Receipt, office: Any) -> bytes:
    return receipt_text(receipt)[:-40]


@tampering
def nested_without_end(receipt: Receipt, office: Any) -> bytes:
    return b"[" * 100_000


@tampering
def larger_than_any_receipt(receipt: Receipt, office: Any) -> bytes:
    return b" " * (MOST_BYTES + 1)


@tampering
def no_text(receipt: Receipt, office: Any) -> bytes:
    return b"\xff\xfe" + receipt_text(receipt)


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_receipt_that_was_tampered_with_is_refused(office, name: str) -> None:
    receipt = copy.deepcopy(office.receipt(3))
    verify_receipt(receipt_text(receipt))
    changed = TAMPERINGS[name](receipt, office)
    data = receipt_text(receipt) if changed is None else changed
    assert data != office.file(3)
    with pytest.raises(VerificationError):
        verify_receipt(data)


def test_a_receipt_of_somebody_else_is_refused_where_the_key_or_the_ledger_is_known(
    office, make_office
) -> None:
    forger = make_office("forger", 11)
    verify_receipt(forger.file(3))  # by itself it only shows that somebody signed it
    with pytest.raises(VerificationError, match="not among those you named"):
        verify_receipt(forger.file(3), public_keys=[office.public])
    with pytest.raises(VerificationError, match="rewritten"):
        verify_receipt(forger.file(3), ledger=verify_ledger(office.ledger()))
    with pytest.raises(VerificationError, match="not among those you named"):
        verify_ledger(forger.ledger(), public_keys=[office.public])


def test_two_ledgers_of_one_operator_are_noticed(office, make_office) -> None:
    """The same key signs a history in which one entry is another: equal size, another root."""
    other = make_office(entries=11)
    other.entries[7] = other.entry(70)
    verify_ledger(other.ledger())
    with pytest.raises(VerificationError, match="rewritten"):
        verify_receipt(office.file(3), ledger=verify_ledger(other.ledger()))
    with pytest.raises(VerificationError, match="rewritten"):
        verify_ledger(other.ledger(), older=verify_ledger(office.ledger()))
    longer = make_office(entries=12)
    longer.entries[7] = longer.entry(70)
    with pytest.raises(VerificationError, match="rewritten"):
        verify_ledger(longer.ledger(), older=verify_ledger(office.ledger()))


# -- ledgers ----------------------------------------------------------------------------------


def _resigned(office: Any, entries: list[bytes]) -> bytes:
    """A ledger of these entries that the operator signed: only the entries can be wrong."""
    other = type(office)()
    other.entries = entries
    return other.ledger()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:-1], lines[1]],
        lambda lines: [*lines[:-1], lines[-1][:-1]],
        lambda lines: [*lines, b""],
        lambda lines: lines[1:],
        lambda lines: [lines[0]],
        lambda lines: [lines[0].replace(b'"size":11', b'"size":10'), *lines[1:-1]],
        lambda lines: [lines[0].replace(b"2026", b"2025"), *lines[1:]],
        lambda lines: [lines[0].replace(b"ledger 2", b"ledger 1"), *lines[1:]],
        lambda lines: [lines[0].replace(b'"keys":{', b'"keys":{"0":"0",'), *lines[1:]],
        lambda lines: [
            *lines[:3],
            lines[3].replace(b'"generation":4', b'"generation":5'),
            *lines[4:],
        ],
        lambda lines: [*lines[:3], lines[3].replace(b'{"signature"', b'{ "signature"'), *lines[4:]],
    ],
)
def test_a_ledger_that_was_tampered_with_is_refused(office, change) -> None:
    lines = office.ledger().splitlines()
    changed = change(list(lines))
    assert changed != lines
    with pytest.raises(VerificationError):
        verify_ledger(b"".join(line + b"\n" for line in changed))


def test_signed_entries_are_still_read_strictly(office) -> None:
    for wrong in (
        {**office.statement(0), "samples": ["a name"]},
        {**office.statement(0), "generation": -1},
        {**office.statement(0), "environment": {"": "x"}},
        {**office.statement(0), "environment": "none"},
        {**office.statement(0), "nodes": {"dropped": [], "refitted": [2, 1], "subtracted": []}},
        {**office.statement(0), "state_after": "A" * 64},
        {**office.statement(0), "key": "c" * 64},
    ):
        with pytest.raises(VerificationError):
            verify_ledger(_resigned(office, [office.sign(wrong)]))


@pytest.mark.parametrize("head", [{"day": "yesterday"}, {"size": -1}, {"root": ""}, {"key": "no"}])
def test_signed_heads_are_still_read_strictly(office, head) -> None:
    with pytest.raises(VerificationError):
        verify_ledger(office.ledger(**office.head(**head)))


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"null\n", b'"x"\n', b"\x00" * 9])
def test_what_is_no_ledger_is_refused(data) -> None:
    assert not is_ledger(data)
    with pytest.raises(VerificationError):
        verify_ledger(data)
    with pytest.raises(VerificationError):
        verify_receipt(data)


def test_a_ledger_says_that_it_is_one(office) -> None:
    assert is_ledger(office.ledger())
    assert not is_ledger(office.file(0))


def test_a_signature_of_a_head_is_bound_to_its_purpose(office) -> None:
    head = office.head()["head"]
    assert signed_head(head).startswith(b"shardgraph ledger head 1\0")


# -- mutants ----------------------------------------------------------------------------------


def mutant(chance: random.Random, receipt: Receipt, data: bytes) -> bytes:
    """A receipt with one to three changes: of bytes, or of values in the right form."""
    if chance.random() < 0.5:
        return _changed_bytes(chance, data)
    changed = copy.deepcopy(receipt)
    for _ in range(chance.choice([1, 1, 2, 3])):
        _change_value(chance, changed)
    return receipt_text(changed)


def _changed_bytes(chance: random.Random, data: bytes) -> bytes:
    for _ in range(chance.choice([1, 1, 2, 3])):
        at = chance.randrange(len(data))
        end = at + chance.choice([1, 1, 2, 40])
        data = chance.choice([
            data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
            data[:at] + data[end:],
            data[:at] + data[at:end] + data[at:],
            data[:at] + chance.randbytes(2) + data[at:],
            data[:at] or b"{",
            data.replace(b"%d" % chance.randrange(10), b"%d" % chance.randrange(10), 1),
        ])  # fmt: skip
    return data


def _change_value(chance: random.Random, value: Any) -> None:
    """Change something somewhere inside a JSON value."""
    if not value:
        return
    key = chance.choice(sorted(value)) if isinstance(value, dict) else chance.randrange(len(value))
    inner = value[key]
    if isinstance(inner, dict | list) and inner and chance.random() < 0.85:
        _change_value(chance, inner)
        return
    others: list[Any] = [None, True, -1, 0, 1.5, 2**60, "", "x", [], {}, [inner], {"key": inner}]
    if isinstance(inner, str) and inner:
        at = chance.randrange(len(inner))
        others += [inner[:at] + chance.choice("0123456789abcdefé\n\ud800") + inner[at + 1 :]] * 12
        others += [inner.upper(), inner + inner[:2], inner[:-2], inner[::-1]]
    if type(inner) is int:
        others += [inner + 1, inner - 1, inner ^ 1 << chance.randrange(40)] * 3
    if chance.random() < 0.1:
        del value[key]
    else:
        value[key] = chance.choice(others)


def test_ten_thousand_mutants_are_refused_and_none_crashes(office) -> None:
    seed = int(os.environ.get("SHARDGRAPH_SEED", "0"))
    chance = random.Random(seed)
    receipt, data = office.receipt(6), office.file(6)
    ledger = verify_ledger(office.ledger())
    refused = same = 0
    while refused < MUTANTS:
        changed = mutant(chance, receipt, data)
        if changed == data:
            same += 1
            continue
        with pytest.raises(VerificationError):
            verify_receipt(changed, ledger=ledger if refused % 2 else None)
        refused += 1
    assert same < MUTANTS / 5
