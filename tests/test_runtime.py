"""Threads stay pinned whoever else works in the process, and the environment is seen as it is."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from shardgraph import runtime
from shardgraph.errors import InterruptedWorkError
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job, train
from shardgraph.nodes.weights import to_bytes
from shardgraph.runtime import describe_changes, pinned_threads, require_pinned


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads() -> int:
    """What a worker that begins now would use."""
    found: list[int] = []
    worker = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    worker.start()
    worker.join()
    return found[0]


def test_the_count_is_restored_when_the_last_has_left() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with pinned_threads():
            entered.set()
            leave.wait()

    worker = threading.Thread(target=other)
    worker.start()
    entered.wait()
    with pinned_threads():
        leave.set()
        worker.join()
        assert threads() == 1
        require_pinned()
    assert threads() == 2


def test_blocks_of_one_thread_may_nest_with_other_counts() -> None:
    with pinned_threads(2):
        with pinned_threads():
            assert threads() == 1
        assert threads() == 2
    assert threads() == 2


def test_another_count_waits_for_the_others() -> None:
    order: list[str] = []
    started = threading.Event()

    def other() -> None:
        started.set()
        with pinned_threads(2):
            order.append("other")

    worker = threading.Thread(target=other)
    with pinned_threads():
        worker.start()
        started.wait()
        time.sleep(0.05)
        order.append("mine")
    worker.join()
    assert order == ["mine", "other"]


def job() -> Job:
    tokens = np.random.default_rng(0).standard_normal((70, 49, 320)).astype(np.float16)
    labels = tuple(f"class {n % 11}" for n in range(70))
    return Job(0, 0, TokenRows.of([(tokens, range(70))]), labels)


def test_fits_keep_their_bits_while_another_thread_pins_and_lets_go() -> None:
    """An answering thread solves heads while another forgets: it must not give threads back."""
    recipe, stop = Recipe(epochs=1), threading.Event()
    alone = to_bytes(train([job()], recipe)[0])

    def other() -> None:
        while not stop.is_set():
            with pinned_threads():
                time.sleep(0.002)
            time.sleep(0.002)

    worker = threading.Thread(target=other)
    worker.start()
    beside = [to_bytes(train([job()], recipe)[0]) for _ in range(3)]
    stop.set()
    worker.join()
    assert beside == [alone] * 3


def test_a_worker_that_has_other_threads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pinned_threads():
        require_pinned()
        torch.set_num_threads(2)
        with pytest.raises(InterruptedWorkError, match="number of threads"):
            require_pinned()
    monkeypatch.setattr(runtime, "pinned_threads", contextlib.nullcontext)
    with pytest.raises(InterruptedWorkError, match="number of threads"):
        train([job()], Recipe(epochs=1))


def test_autocast_shows_in_the_environment() -> None:
    plain = runtime.environment()
    with torch.autocast("cpu"):
        assert runtime.environment()["arithmetic"] != plain["arithmetic"]
    assert runtime.environment() == plain


def test_variables_that_choose_kernels_show_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = runtime.environment()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert runtime.environment() == before
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert runtime.environment()["variables"] == "MKL_CBWR=COMPATIBLE"


def test_of_a_list_only_what_differs_is_shown() -> None:
    changes = {
        "instructions": ("avx avx2 fma", "avx fma amx_tile"),
        "torch": ("2.1", "2.2"),
        "variables": ("", "MKL_CBWR=AVX2"),
    }
    assert describe_changes(changes) == [
        "instructions avx2 -> amx_tile",
        "torch 2.1 -> 2.2",
        "variables none -> MKL_CBWR=AVX2",
    ]
