"""One store, what should be in it, and whether it is.

Every change goes through the public `SafeModel`; every check compares with the `Reference`, or
looks at raw bytes. A check that fails raises `AssertionError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.crash import CrashError, dying
from harness.directory import all_bytes, influence_files, influence_hashes, traces
from harness.fresh import FreshFits
from harness.reference import Reference
from harness.world import LICENSED, Being, Live, World, fit
from shardgraph.errors import UsageError
from shardgraph.forgetting import refit
from shardgraph.forgetting.outcome import ChangeOutcome
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel
from shardgraph.nodes import representation


class Actor:
    """A model on a store, with the live samples that its history has left."""

    def __init__(self, world: World, topology: str, folder: Path) -> None:
        self.world = world
        self.topology = topology
        self.reference = Reference(world, topology)
        self.path = folder / "store"
        self.live: Live = {}
        self.requests = 0
        self._ever: set[bytes] = set()
        self._model: SafeModel | None = None
        self._config: dict[str, Any] = {}

    @property
    def model(self) -> SafeModel:
        """The model, open for writing."""
        if self._model is None:
            raise RuntimeError("fit or open first")
        return self._model

    # -- changes --------------------------------------------------------------------------------

    def fit(self, names: Iterable[str]) -> None:
        """Fit first versions of these samples."""
        live = dict.fromkeys(names, 0)
        with self.trained() as nodes:
            self._model = fit(self.world, self.topology, live, self.path)
        self._config = self.model.store.config.to_json()
        self._become(live)
        assert set(nodes) == self.reference.alive(live)

    def add(self, versions: Live) -> ChangeOutcome:
        """Add samples that are not live."""
        with self.trained() as nodes:
            outcome = self.model.add(self.world.dataset(versions))
        self._require_closure(nodes, outcome, self._shards(versions), {**self.live, **versions})
        self._become({**self.live, **versions})
        return outcome

    def forget(
        self,
        samples: Iterable[str] = (),
        owners: Iterable[str] = (),
        sources: Iterable[str] = (),
        key: str | None = None,
    ) -> ChangeOutcome:
        """Forget, and check who was refitted."""
        request = self.request(samples, owners, sources, key)
        gone = self.named(request)
        left = {name: version for name, version in self.live.items() if name not in gone}
        touched = self._shards({name: self.live[name] for name in gone})
        with self.trained() as nodes:
            outcome = self.model.forget(request)
        assert outcome.samples == len(gone)
        self._require_closure(nodes, outcome, touched, left)
        self._become(left)
        return outcome

    def forget_dying(self, steps: int, samples: Iterable[str]) -> bool:
        """Die after some durable steps of forgetting, come back; whether it died."""
        request = self.request(samples)
        before = self.live
        after = {name: version for name, version in before.items() if name not in request.samples}
        touched = self._shards({name: before[name] for name in request.samples})
        died = self._die(steps, lambda: self.model.forget(request))
        if died:
            self.look_in(touched, before, after)
        self.open()
        accepted = self.model.store.request_of(request.key) is not None
        assert accepted or died
        self._become(after if accepted else before)
        return died

    def add_dying(self, steps: int, versions: Live) -> bool:
        """Die after some durable steps of adding, come back; whether it died."""
        before, after = self.live, {**self.live, **versions}
        died = self._die(steps, lambda: self.model.add(self.world.dataset(versions)))
        self._ever |= _marks(self.world.beings(versions))
        self.open()
        added = bool(self.model.store.lookup(self.world_ids(versions)))
        assert added or died
        self._become(after if added else before)
        return died

    def accept(self, samples: Iterable[str]) -> frozenset[int]:
        """Have a request accepted and nothing more; the fenced nodes."""
        request = self.request(samples)

        def die(*_: Any, **__: Any) -> None:
            raise CrashError("after acceptance")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("shardgraph.model.resume", die)
            with pytest.raises(CrashError):
                self.model.forget(request)
        return self.model.store.view().fenced

    def go_on_elsewhere(self, fresh: FreshFits, samples: Iterable[str], versions: Live) -> None:
        """Forget and add in another process, and come back."""
        names = set(samples)
        left = {name: version for name, version in self.live.items() if name not in names}
        grown = {**left, **versions}
        self.close()
        done = fresh.change(self.path, self.world, names, versions)
        for before, after in ((self.live, left), (left, grown)):
            if before != after:
                changed = {
                    n: v for n, v in (before | after).items() if (n in before) != (n in after)
                }
                closure = self.reference.closure(before, after, self._shards(changed))
                found = done.pop(0)
                assert set(found["refit"]) == closure.refit, "refitted elsewhere"
                assert set(found["subtracted"]) == closure.subtract, "subtracted from elsewhere"
                assert set(found["dropped"]) == closure.dropped, "dropped elsewhere"
        self._become(left)
        self._become(grown)
        self.open()

    def open(self) -> None:
        """Close the store and open it again for writing, which finishes what was begun."""
        self.close()
        self._model = SafeModel.open(self.path, write=True)

    def close(self) -> None:
        """Close the store."""
        if self._model is not None:
            self._model.close()
            self._model = None

    def take_over(self, other: Actor) -> None:
        """Act on a copy of another actor's store, as if its history were one's own."""
        self._config = other._config
        self._ever = set(other._ever)
        self.live = dict(other.live)
        self.requests = other.requests
        self.reference = other.reference
        self.open()

    def become_without(self, samples: Iterable[str]) -> None:
        """Take note that these samples have gone by another way than `forget`."""
        self._become({n: v for n, v in self.live.items() if n not in set(samples)})

    # -- names ----------------------------------------------------------------------------------

    def request(
        self,
        samples: Iterable[str] = (),
        owners: Iterable[str] = (),
        sources: Iterable[str] = (),
        key: str | None = None,
    ) -> ForgetRequest:
        """A request; its key holds every name in it, so that a kept key would be found."""
        names = [*samples], [*owners], [*sources]
        self.requests += 1
        made_up = f"request {self.requests} for {names}"
        return ForgetRequest.of(
            samples=names[0], owners=names[1], sources=names[2], key=key or made_up
        )

    def named(self, request: ForgetRequest) -> set[str]:
        """The live samples that a request names."""
        return {
            being.id
            for being in self.beings()
            if being.id in request.samples
            or being.owner in request.owners
            or being.source in request.sources
        }

    def beings(self) -> list[Being]:
        """The live samples, by id."""
        return self.world.beings(self.live)

    def absent(self) -> list[str]:
        """Ids that are not live."""
        return [name for name in self.world.ids if name not in self.live]

    def world_ids(self, versions: Live) -> list[Any]:
        """Ids as the store types them."""
        return sorted(versions)

    # -- checks ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Exactness and erasure of the state as it is now."""
        expected = self.reference.expected(self.live, self._config)
        assert self.model.store.config.to_json() == self._config, "the configuration changed"
        found = influence_files(self.path)
        assert sorted(found) == sorted(expected.files), "other files than a fit from scratch"
        assert found == expected.files, "other bytes than a fit from scratch"
        assert self.model.store.digest() == expected.digest, "another digest"
        assert self.model.classes == expected.classes, "other classes"
        assert not list(self.model.store.staging.iterdir()), "something is left in staging"
        assert not self.remains(), "something of the forgotten remains"

    def check_fresh(self, state: dict[str, Any]) -> None:
        """Equality with a fit from scratch in another process."""
        found = influence_files(self.path)
        assert sorted(found) == sorted(state["files"]), "other files than a fresh process"
        assert self.hashes() == state["files"], "other bytes than a fresh process"
        assert self.model.store.digest() == state["digest"], "another digest than a fresh process"
        answer = self.model.answer(self.world.probe()).probabilities
        assert answer.tolist() == state["probe"], "other answers than a fresh process"

    def hashes(self) -> dict[str, str]:
        """Influence files by name, with their SHA-256."""
        return influence_hashes(self.path)

    def remains(self) -> list[str]:
        """Where in the store directory anything is that belongs to no live sample."""
        return traces(self.path, self._ever - _marks(self.beings()))

    def look_in(self, touched: set[int], before: Live, after: Live) -> None:
        """What a reader may see while a request stands half-way: fenced, or brought up to date."""
        with SafeModel.open(self.path) as reader:
            view = reader.store.view()
            if view.generation and view.digest == self._digest(after):
                assert not view.fenced
                return
            assert view.digest == self._digest(before), "a state that is neither before nor after"
            if not reader.store.pending():
                assert not view.fenced
                return
            self.require_silent(reader, touched)

    def require_silent(self, reader: SafeModel, touched: set[int]) -> None:
        """No answer comes from a node that read or tallied a pending sample of these shards."""
        influenced = self.reference.influenced(touched)
        left = self._answering(reader) - influenced
        try:
            answer = reader.answer(self.world.probe())
        except UsageError:
            assert not left, "nobody answers without need"
            return
        answering = set(reader.node_probabilities(self.world.probe()))
        assert not answering & influenced, "a fenced node answers"
        assert answering == left, "too many are fenced"
        assert answer.classes == reader.classes

    def _answering(self, reader: SafeModel) -> set[int]:
        """Nodes that have something to answer with: a head of their own, or samples they tally."""
        view = reader.store.view()
        tallies = self.reference.tallies
        return {
            node
            for node in view.nodes
            if not tallies[node] or any(shard in view.shards for shard in tallies[node])
        }

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """No byte of the store changes in the block."""
        before = all_bytes(self.path)
        yield
        after = all_bytes(self.path)
        assert after.keys() == before.keys(), f"came or went: {after.keys() ^ before.keys()}"
        assert after == before, "bytes changed"

    @contextmanager
    def trained(self) -> Iterator[list[int]]:
        """The nodes that are really fitted in the block, one entry for each time."""
        nodes: list[int] = []
        real, without_data = refit.represent, representation.without_data

        def counting(jobs: Any, *arguments: Any, **options: Any) -> Any:
            nodes.extend(job.node for job in jobs)
            return real(jobs, *arguments, **options)

        def drawing(seed: int, *arguments: Any) -> Any:
            nodes.append(self.reference.node_of(seed))
            return without_data(seed, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(refit, "represent", counting)
            patch.setattr(representation, "without_data", drawing)
            yield nodes

    # -- inside ---------------------------------------------------------------------------------

    def _digest(self, live: Live) -> str:
        return self.reference.expected(live, self._config).digest

    def _become(self, live: Live) -> None:
        self.live = dict(live)
        self._ever |= _marks(self.beings())

    def _shards(self, live: Live) -> set[int]:
        return {self.reference.shard_of(being) for being in self.world.beings(live)}

    def _require_closure(
        self, nodes: list[int], outcome: ChangeOutcome, touched: set[int], left: Live
    ) -> None:
        closure = self.reference.closure(self.live, left, touched)
        assert set(outcome.nodes_refit) == closure.refit, "the refitted set is not the closure"
        assert set(outcome.nodes_subtracted) == closure.subtract, "others were subtracted from"
        assert set(outcome.nodes_dropped) == closure.dropped, "other nodes were dropped"
        assert sorted(nodes) == sorted(closure.refit), "other nodes were trained than was said"

    def _die(self, steps: int, act: Callable[[], object]) -> bool:
        try:
            with dying(steps):
                act()
        except CrashError:
            return True
        finally:
            self.close()
        return False


def _marks(beings: Iterable[Being]) -> set[bytes]:
    """All bytes by which these samples could be recognised."""
    marks: set[bytes] = set()
    for being in beings:
        marks.update(being.marks)
        names = (being.label, being.owner, None if being.source == LICENSED else being.source)
        marks.update(name.encode() for name in names if name is not None)
    return marks
