"""Random histories: a state machine whose every step must leave what a fresh fit would give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from harness.actor import Actor
from harness.fresh import FreshFits
from harness.world import World, scratch
from shardgraph.errors import DataError, UnknownIdError

FRESH_EVERY = 30
"""Steps between two comparisons with another process; the last state is always compared."""

PICKS = st.lists(st.integers(0, 999), min_size=1, max_size=3)
MOST_STEPS = 60
"""No operation of these histories takes more durable steps than this."""

FEWEST, MOST = 1, 24
"""Between these numbers of live samples every rule has something to do."""


@dataclass
class Tally:
    """What was run, and what differed. ``histories`` are those that took all their steps."""

    histories: int = 0
    steps: int = 0
    fresh: int = 0
    rules: dict[str, int] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)

    def compare(self, answers: Sequence[tuple[Any, dict[str, Any]]]) -> None:
        """Note every fresh fit that differs from what the history left."""
        for (what, mine), theirs in answers:
            self.fresh += 1
            if mine != theirs:
                self.mismatches.append(what)


def step(act: Callable[..., None]) -> Callable[..., None]:
    """Count a rule as one step of its history."""

    @wraps(act)
    def counted(self: Any, *arguments: Any, **options: Any) -> None:
        self.tally.steps += 1
        live = len(self.actor.live)
        if live < FEWEST or live > MOST:
            self.refill_or_empty()
        self.tally.rules[act.__name__] = self.tally.rules.get(act.__name__, 0) + 1
        act(self, *arguments, **options)
        self.taken += 1
        if self.taken % self.fresh_every == 0:
            self.compare_with_another_process()

    return counted


class History(RuleBasedStateMachine):
    """One history over one graph. Subclass it with a topology, a tally, a process, a length."""

    topology: ClassVar[str] = "isolated"
    tally: ClassVar[Tally] = Tally()
    fresh: ClassVar[FreshFits]
    fresh_every: ClassVar[int] = FRESH_EVERY
    length: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self._scratch = scratch()
        self._folder = self._scratch.__enter__()
        self.taken = 0
        self._compared = -1
        self.actor = Actor(World(0), self.topology, self._folder)

    @initialize(seed=st.integers(0, 9999), count=st.integers(8, 20), start=st.integers(0, 31))
    def begin(self, seed: int, count: int, start: int) -> None:
        assume(seed)  # nothing but zeros is what hypothesis begins every run with
        self.actor = Actor(World(seed), self.topology, self._folder)
        ids = self.actor.world.ids
        self.actor.fit({ids[(start + n) % len(ids)] for n in range(count)})

    @invariant()
    def is_what_a_fit_from_scratch_gives(self) -> None:
        if self.actor.path.exists():
            self.actor.check()

    # -- forgetting -----------------------------------------------------------------------------

    @rule(pick=PICKS)
    @step
    def forget_one(self, pick: list[int]) -> None:
        self.actor.forget(samples=self._some(pick[:1]))

    @rule(pick=st.lists(st.integers(0, 999), min_size=2, max_size=6))
    @step
    def forget_many(self, pick: list[int]) -> None:
        self.actor.forget(samples=self._some(pick))

    @rule(pick=PICKS)
    @step
    def forget_an_owner(self, pick: list[int]) -> None:
        owners = sorted({being.owner for being in self.actor.beings() if being.owner})
        if owners:
            self.actor.forget(owners=[owners[pick[0] % len(owners)]])

    @rule(pick=PICKS)
    @step
    def forget_a_source(self, pick: list[int]) -> None:
        sources = sorted({being.source for being in self.actor.beings() if being.source})
        if sources and pick[0] % 3 == 0:  # a source is a third of what is live
            self.actor.forget(sources=[sources[pick[0] % len(sources)]])

    @rule(pick=PICKS)
    @step
    def empty_a_shard(self, pick: list[int]) -> None:
        shards = [held for held in self.actor.reference.contents(self.actor.live) if held]
        self.actor.forget(samples=[being.id for being in shards[pick[0] % len(shards)]])

    @rule(pick=PICKS)
    @step
    def forget_the_last_of_a_class(self, pick: list[int]) -> None:
        labels = sorted({being.label for being in self.actor.beings()})
        label = labels[pick[0] % len(labels)]
        members = [being.id for being in self.actor.beings() if being.label == label]
        for name in members[1:]:
            self.actor.forget(samples=[name])
        self.actor.forget(samples=members[:1])

    @rule()
    @step
    def forget_what_it_is_surest_of(self) -> None:
        beings = self.actor.beings()
        tokens = self.actor.world.dataset(self.actor.live)
        answer = self.actor.model.answer(tokens._array)
        sure = [
            answer.probabilities[row, answer.classes.index(being.label)]
            for row, being in enumerate(beings)
        ]
        self.actor.forget(samples=[beings[sure.index(max(sure))].id])

    @rule(pick=PICKS)
    @step
    def forget_what_is_unknown(self, pick: list[int]) -> None:
        model, some = self.actor.model, self._some(pick)
        with self.actor.unchanged():
            for names in ({"samples": [*some, "nobody"]}, {"owners": ["nobody"]}):
                with pytest.raises(UnknownIdError):
                    model.forget(self.actor.request(**names))

    @rule(pick=PICKS)
    @step
    def forget_twice_under_one_key(self, pick: list[int]) -> None:
        some = self._some(pick)
        request = self.actor.request(samples=some)
        self.actor.forget(samples=some, key=request.key)
        with self.actor.unchanged():
            assert self.actor.model.forget(request).nodes_refit == ()

    @rule(pick=PICKS, more=PICKS)
    @step
    def forget_several_requests_at_once(self, pick: list[int], more: list[int]) -> None:
        first = self._some(pick)
        second = [name for name in self._some(more) if name not in first]
        self.actor.accept(first)
        if second:
            self.actor.accept(second)
        beings = self.actor.world.beings({n: self.actor.live[n] for n in (*first, *second)})
        touched = {self.actor.reference.shard_of(being) for being in beings}
        self.actor.require_silent(self.actor.model, touched)
        before = self.actor.live
        with self.actor.trained() as nodes:
            self.actor.open()
        self.actor.become_without([*first, *second])
        closure = self.actor.reference.closure(before, self.actor.live, touched)
        assert sorted(nodes) == sorted(closure.refit)

    # -- adding, stopping -----------------------------------------------------------------------

    @rule(pick=st.lists(st.integers(0, 999), min_size=1, max_size=8))
    @step
    def add(self, pick: list[int]) -> None:
        absent = self.actor.absent()
        self.actor.add({absent[n % len(absent)]: n % 2 for n in pick})

    @rule(pick=PICKS, version=st.integers(0, 1))
    @step
    def forget_and_add_again(self, pick: list[int], version: int) -> None:
        some = self._some(pick)
        self.actor.forget(samples=some)
        self.actor.add(dict.fromkeys(some, version))

    @rule(pick=PICKS)
    @step
    def add_what_is_there(self, pick: list[int]) -> None:
        some = {name: self.actor.live[name] for name in self._some(pick)}
        with self.actor.unchanged():
            assert self.actor.model.add(self.actor.world.dataset(some)).samples == 0
            other = {name: 1 - version for name, version in some.items()}
            with pytest.raises(DataError):
                self.actor.model.add(self.actor.world.dataset(other))

    @rule()
    @step
    def reopen(self) -> None:
        self.actor.open()

    @rule(pick=PICKS, more=PICKS, version=st.integers(0, 1))
    @step
    def go_on_in_another_process(self, pick: list[int], more: list[int], version: int) -> None:
        """With another hash seed, locale, working directory and order of directories."""
        if pick[0] % 6:  # a fork takes as long as three other steps
            self.actor.open()
            return
        absent = self.actor.absent()
        added = dict.fromkeys((absent[n % len(absent)] for n in more), version)
        self.actor.go_on_elsewhere(self.fresh, self._some(pick), added)

    @rule(pick=PICKS, after=st.integers(0, MOST_STEPS))
    @step
    def crash_while_forgetting(self, pick: list[int], after: int) -> None:
        self.actor.forget_dying(after, self._some(pick))

    @rule(pick=PICKS, after=st.integers(0, MOST_STEPS))
    @step
    def crash_while_adding(self, pick: list[int], after: int) -> None:
        absent = self.actor.absent()
        self.actor.add_dying(after, {absent[n % len(absent)]: n % 2 for n in pick})

    # -- inside ---------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.tally.histories += self.taken == self.length
        if self.actor.path.exists() and self._compared != self.taken:
            self.compare_with_another_process()
        self.actor.close()
        self._scratch.__exit__(None, None, None)

    def compare_with_another_process(self) -> None:
        """Ask for a fit from scratch of what is live; the answer is compared when it comes."""
        self._compared = self.taken
        actor = self.actor
        if not actor.live:
            return
        mine = {
            "digest": actor.model.store.digest(),
            "files": actor.hashes(),
            "probe": actor.model.answer(actor.world.probe()).probabilities.tolist(),
        }
        what = f"{self.topology}, world {actor.world.seed}, live {actor.live}"
        answers = self.fresh.check_later((what, mine), actor.world, self.topology, actor.live)
        self.tally.compare(answers)

    def refill_or_empty(self) -> None:
        """Where nothing is left to forget, add; where nothing is left to add, forget."""
        if len(self.actor.live) < FEWEST:
            self.actor.add(dict.fromkeys(self.actor.absent()[::2], 0))
        else:
            self.actor.forget(samples=sorted(self.actor.live)[::2])

    def _some(self, pick: Sequence[int]) -> list[str]:
        names = sorted(self.actor.live)
        return sorted({names[n % len(names)] for n in pick}) if names else []


def profile(histories: int, steps: int) -> settings:
    """How hypothesis runs the histories."""
    return settings(
        max_examples=histories,
        stateful_step_count=steps + 1,  # the beginning counts as one
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
