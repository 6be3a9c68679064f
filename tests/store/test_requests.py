"""The life of a request, step by step, and each step twice."""

from __future__ import annotations

import pytest

from shardgraph.errors import StoreError, UnknownIdError, UsageError
from shardgraph.store import Change, Store
from shardgraph.store.requests import SECONDS_PER_DAY


def test_acceptance_fences_in_the_same_step(toy, store) -> None:
    before = store.view()
    request = toy.accept(store, "key", toy.samples([0, 1]), now=1000.0, days=2)
    view = store.view()
    assert request.state == "accepted"
    assert request.deadline == 1000.0 + 2 * SECONDS_PER_DAY
    assert view.fenced == request.fenced == toy.nodes_of({toy.sample(0).shard})
    assert (view.generation, view.digest) == (before.generation, before.digest)
    assert view.samples == before.samples - 2
    assert store.pending() == {"class0/image-0.jpg", "class1/image-1.jpg"}


def test_pending_samples_cannot_be_found_or_requested_again(toy, store) -> None:
    toy.accept(store, "key", toy.samples([0]))
    for ask in (
        lambda: store.find([toy.sample(0).id]),
        lambda: toy.accept(store, "other", toy.samples([1, 0])),
    ):
        with pytest.raises(UnknownIdError, match=r"class0/image-0\.jpg"):
            ask()
    assert [r.id for r in store.owned_by("owner-0")] == [toy.sample(1).id]
    assert [r.state for r in store.requests()] == ["accepted"]


def test_a_label_that_only_pending_samples_have_is_gone_at_once(toy, tmp_path) -> None:
    with toy.fit(tmp_path / "store", toy.samples([0, 1, 3])) as store:
        assert store.view().labels() == ("label0", "label1")
        toy.accept(store, "key", toy.samples([1]))
        assert store.view().labels() == ("label0",)
        assert store.view().pending_labels == {"label1": 1}


def test_the_same_key_is_the_same_request_for_ever(toy, store) -> None:
    first = toy.accept(store, "key", toy.samples([0, 1]))
    assert toy.accept(store, "key", toy.samples([1, 0, 1])) == first
    with pytest.raises(UsageError, match="other samples"):
        toy.accept(store, "key", toy.samples([2]))
    toy.carry_on(store)
    assert toy.accept(store, "key", toy.samples([0, 1])) == store.requests()[0]
    assert len(store.requests()) == 1


@pytest.mark.parametrize("days", [0, -1, float("inf"), float("nan")])
def test_an_impossible_deadline_is_refused(toy, store, days) -> None:
    with pytest.raises(UsageError, match="future"):
        toy.accept(store, "key", toy.samples([0]), days=days)
    assert store.requests() == ()


def test_a_request_must_name_samples_that_are_there(toy, store) -> None:
    with pytest.raises(UsageError, match="at least one"):
        store.accept("key", "samples", [], [])
    with pytest.raises(UnknownIdError, match=r"'a', 'b', 'c', 'd', 'e' and 2 more\."):
        store.accept("key", "samples", list("abcdefg"), [])
    with pytest.raises(UnknownIdError, match="'nobody'"):
        store.owned_by("nobody")
    with pytest.raises(UnknownIdError, match="'nowhere'"):
        store.from_source("nowhere")
    assert store.requests() == ()
    assert store.view().fenced == frozenset()


def test_every_step_may_be_taken_twice_and_none_too_early(toy, store) -> None:
    request = toy.accept(store, "key", toy.samples([0, 1]))
    ids = [request.id]
    with pytest.raises(UsageError):
        store.finish(ids)
    with pytest.raises(UsageError, match="not erased"):
        store.issue_receipt(request.id, b"early")
    change = toy.change(store, [request])
    for _ in range(2):
        store.mark_refitted(ids)
    assert store.requests()[0].state == "refitted"
    assert store.view().fenced == request.fenced
    assert [store.publish(change) for _ in range(2)] == [2, 2]
    assert store.view().fenced == frozenset()
    with pytest.raises(UsageError, match="still to be erased"):
        store.finish(ids)
    with pytest.raises(UsageError, match="not erased"):
        store.issue_receipt(request.id, b"early")
    store.mark_refitted(ids)
    assert store.requests()[0].state == "published"
    assert store.erase_superseded() > 0
    assert store.erase_superseded() == 0
    for _ in range(2):
        store.finish(ids)
    erased = store.requests()[0]
    assert (erased.state, erased.samples, erased.fenced) == ("erased", (), request.fenced)
    assert [store.issue_receipt(request.id, b"one"), store.issue_receipt(request.id, b"two")] == [
        0,
        0,
    ]
    store.finish(ids)
    done = store.requests()[0]
    assert (done.state, done.fenced, done.receipt) == ("receipted", frozenset(), 0)
    assert store.ledger.entries() == (b"one",)
    assert store.unfinished() == ()
    with pytest.raises(UsageError, match="no request 99"):
        store.finish([99])


def test_several_requests_are_carried_out_together(toy, store) -> None:
    toy.accept(store, "one", toy.samples([0]))
    toy.accept(store, "two", toy.samples([5, 6]))
    toy.carry_on(store)
    assert store.view().generation == 2
    assert [(r.state, r.generation, r.receipt) for r in store.requests()] == [
        ("receipted", 2, 0),
        ("receipted", 2, 1),
    ]


def test_what_opens_a_state_lasts_as_long_as_the_state(toy, store) -> None:
    toy.accept(store, "one", toy.samples([0]))
    toy.carry_on(store)
    toy.accept(store, "two", toy.samples([5]))
    first, second = (request.state_opening for request in store.requests())
    assert first != second
    assert [len(first), len(second)] == [64, 64]
    assert first not in {request.commitment for request in store.requests()}
    toy.carry_on(store)
    assert [request.state_opening for request in store.requests()] == [None, second]
    toy.add(store, [toy.sample(60)])
    assert [request.state_opening for request in store.requests()] == [None, None]


def test_saved_requests_hold_no_state_and_nothing_that_opens_one(toy, store, tmp_path) -> None:
    toy.accept(store, "key", toy.samples([0]))
    toy.carry_on(store)
    store.save_requests(tmp_path / "saved")
    (request,) = store.requests()
    saved = (tmp_path / "saved").read_bytes()
    assert request.commitment.encode() in saved
    for number in (request.state_opening, store.digest()):
        assert number.encode() not in saved


def test_one_request_can_be_carried_out_while_another_waits(toy, store) -> None:
    one = toy.accept(store, "one", toy.samples([0]))
    two = toy.accept(store, "two", toy.samples([1]))
    assert toy.sample(0).shard == toy.sample(1).shard
    store.publish(toy.change(store, [one]))
    view = store.view()
    assert view.fenced == two.fenced
    assert store.pending() == {toy.sample(1).id}
    with pytest.raises(UsageError, match="carried out already"):
        store.publish(Change(requests=(one.id, two.id)))


def test_deadlines_warn_after_two_thirds(toy, store) -> None:
    request = toy.accept(store, "key", toy.samples([0]), now=0.0, days=30)
    assert not request.late(19.9 * SECONDS_PER_DAY)
    assert request.late(20.1 * SECONDS_PER_DAY)
    assert not request.overdue(29.9 * SECONDS_PER_DAY)
    assert request.overdue(30.1 * SECONDS_PER_DAY)
    toy.carry_on(store)
    assert not store.requests()[0].overdue(99 * SECONDS_PER_DAY)


def test_a_change_that_is_not_whole_changes_nothing(toy, store) -> None:
    request = toy.accept(store, "key", toy.samples([0, 1]))
    whole = toy.change(store, [request])
    before = store.view()
    shard = toy.sample(0).shard
    node = min(request.fenced)
    base = {"requests": whole.requests, "activations": whole.activations}
    wrong = [
        (Change(requests=(request.id,), nodes=whole.nodes), "activations are not given"),
        (Change(**base), "neither refits nor removes"),
        (
            Change(**base, nodes={k: v for k, v in whole.nodes.items() if k != node}),
            f"Node {node}",
        ),
        (
            Change(requests=whole.requests, activations={shard: None}, nodes=whole.nodes),
            "if and only if" if whole.activations[shard] else "",
        ),
        (
            Change(requests=whole.requests, activations={shard: "0" * 64}, nodes=whole.nodes),
            "not there|if and only if",
        ),
        (Change(added=(toy.sample(4),), activations={toy.sample(4).shard: None}), "already"),
        (
            Change(added=(toy.sample(50),) * 2, activations={toy.sample(50).shard: None}),
            "given twice",
        ),
        (Change(activations={shard: "0" * 64}), "not there"),
    ]
    for change, message in wrong:
        if message:
            with pytest.raises((UsageError, StoreError), match=message):
                store.publish(change)
        assert store.view() == before
    assert store.publish(whole) == 2


def test_text_that_is_not_unicode_is_refused_by_name(toy, store) -> None:
    from dataclasses import replace

    record = replace(toy.sample(60), id="bad\udcff.jpg")
    change = Change(added=(record,), activations={record.shard: None})
    with pytest.raises(StoreError, match="Unicode"):
        store.publish(change)


def test_the_environment_can_be_replaced_with_a_generation(toy, store) -> None:
    before = store.digest()
    store.publish(Change(environment={"machine": "new"}))
    assert store.config.environment == {"machine": "new"}
    assert store.digest() != before
    store.publish(Change(environment=toy.config.environment))
    assert store.digest() == before


def test_a_refit_that_was_kept_survives_and_goes_with_the_publication(toy, store) -> None:
    request = toy.accept(store, "key", toy.samples([0, 1]))
    node = min(request.fenced)
    digest = store.put("nodes", node, b"kept")
    store.keep_refit("nodes", node, "basis", digest)
    store.close()
    with Store.open(store.path, "write") as again:
        again.erase_superseded()
        assert again.kept_refit("nodes", node, "basis") == digest
        assert again.kept_refit("nodes", node, "another") is None
        again.path_of("nodes", node, digest).write_bytes(b"damaged")
        assert again.kept_refit("nodes", node, "basis") is None
        toy.carry_on(again)
        assert again.kept_refit("nodes", node, "basis") is None
        assert not again.path_of("nodes", node, digest).exists()
