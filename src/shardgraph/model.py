"""`SafeModel`: one store, from fitting to forgetting. Both faces of the package stand on it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from shardgraph.activations.backbone import Backbone
from shardgraph.activations.encode import OnBadFile
from shardgraph.activations.open import open_backbone
from shardgraph.data.open import open_dataset
from shardgraph.data.sample import Dataset
from shardgraph.errors import DataError, EnvironmentChangedError, GraphError
from shardgraph.files import write_atomic
from shardgraph.forgetting.answer import Answer, Answerer, Snapshot
from shardgraph.forgetting.carry_out import resume
from shardgraph.forgetting.create import Added, FitSettings, add_samples, fit_store
from shardgraph.forgetting.ingest import encode_batches
from shardgraph.forgetting.machine import slower_paths
from shardgraph.forgetting.outcome import ChangeOutcome, Evaluation, Verification
from shardgraph.forgetting.plan import Plan, plan_change
from shardgraph.forgetting.progress import Progress, silent
from shardgraph.forgetting.reading import StoreReader
from shardgraph.forgetting.rebase import check_environment
from shardgraph.forgetting.refit import NodeProgress
from shardgraph.forgetting.request import ForgetRequest, records_named
from shardgraph.forgetting.speed import measured_speed
from shardgraph.forgetting.verify import verify
from shardgraph.graph import picture
from shardgraph.graph.cost import Cost, request_cost
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.store import Record, Store

Data = Dataset | str | os.PathLike[str]


class SafeModel:
    """A store that answers, forgets, adds and verifies.

    Open for writing it first carries out whatever a crash left unfinished. Any number of readers
    may be open beside one writer, in any number of processes.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._answerer = Answerer(store)
        self._changing = threading.RLock()
        self._backbone: Backbone | None = None

    @classmethod
    def fit(
        cls,
        data: Data,
        path: str | Path,
        settings: FitSettings | None = None,
        progress: Progress = silent,
    ) -> tuple[Self, ChangeOutcome]:
        """Fit a new store at ``path`` and return it open for writing, with what was done.

        Interrupted, it goes on where it stopped when it is called again with equal arguments.

        Raises:
            StoreExistsError: there is a store already; nothing has changed.
            GraphError, RecipeError, DataError, BadFileError: as they say; nothing is published.
        """
        started = time.perf_counter()
        store, added = fit_store(_dataset(data), Path(path), settings or FitSettings(), progress)
        model = cls(store)
        return model, model._outcome("fit", added, started)

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False, progress: Progress = silent) -> Self:
        """Open a store; for writing, unfinished requests are carried out first.

        Raises:
            EnvironmentChangedError: for writing, and refits here would give other bits.
            StoreMissingError, StoreFormatError, StoreDamagedError, StoreLockedError.
        """
        store = Store.open(Path(path), "write" if write else "read")
        model = cls(store)
        if write:
            try:
                check_environment(store)
                resume(store, _node_progress(progress))
            except BaseException:
                store.close()
                raise
        return model

    def close(self) -> None:
        """Release the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- answers --------------------------------------------------------------------------------

    @property
    def classes(self) -> tuple[str, ...]:
        """The sorted labels of the live samples, as text."""
        return self._answerer.snapshot().view.labels()

    @property
    def label_type(self) -> str:
        """How labels are shown to the caller of a `SafeClassifier`."""
        return self.store.config.label_type

    @property
    def token_shape(self) -> tuple[int, int]:
        """Tokens T and width D of an activation."""
        backbone = self.store.config.backbone
        return int(backbone["tokens"]), int(backbone["width"])

    def snapshot(self) -> Snapshot:
        """The generation that answers now, as a whole: its view and its ensemble."""
        return self._answerer.snapshot()

    def answer(self, tokens: np.ndarray) -> Answer:
        """Answer for activations [B, T, D], with the generation and the fence of this moment."""
        if tokens.shape[1:] != self.token_shape:
            raise DataError(
                f"Activations of shape {tokens.shape[1:]} do not fit the store's "
                f"{self.token_shape}.",
                advice="Use the encoder and layer that the store was fitted with.",
            )
        return self._answerer.snapshot().answer(tokens)

    def node_probabilities(self, tokens: np.ndarray) -> dict[int, np.ndarray]:
        """What each node that may answer says by itself: [B, C] over `classes`."""
        ensemble = self._answerer.snapshot().ensemble
        return dict(zip(ensemble.nodes, ensemble.node_probabilities(tokens), strict=True))

    def encode(self, data: Data, *, progress: Progress = silent) -> np.ndarray:
        """Activations [N, T, D] of all samples of ``data``, float16, in their order; not stored.

        Raises:
            BadFileError: a file cannot be read.
            DataError: the store's encoder takes another kind of data.
        """
        dataset = _dataset(data)
        batches = encode_batches(
            dataset,
            self.backbone,
            batch_size=self._batch_size,
            progress=lambda done, total: progress("encoding", done, total, dataset.kind),
        )
        return np.concatenate([tokens for _, tokens, _ in batches])

    def predict(self, data: Data, *, progress: Progress = silent) -> Answer:
        """Answer for all samples of ``data``, in their order; raises as `encode`."""
        return self.answer(self.encode(data, progress=progress))

    def evaluate(
        self, data: Data, *, on_bad_file: OnBadFile = "stop", progress: Progress = silent
    ) -> Evaluation:
        """Accuracy on labelled data, which is not stored. One generation answers throughout."""
        started = time.perf_counter()
        dataset = _dataset(data)
        snapshot = self._answerer.snapshot()
        right, count = 0, 0
        bad_files: list[str] = []
        batches = encode_batches(
            dataset,
            self.backbone,
            batch_size=self._batch_size,
            on_bad_file=on_bad_file,
            progress=lambda done, total: progress("encoding", done, total, dataset.kind),
        )
        for indices, tokens, bad in batches:
            bad_files += bad
            if indices:
                labels = snapshot.answer(tokens).labels
                truth = [dataset.samples[index].label for index in indices]
                right += sum(a == b for a, b in zip(labels, truth, strict=True))
                count += len(indices)
        if not count:
            raise DataError("No sample could be read.", advice="Check the files of the data.")
        known = set(snapshot.view.labels())
        return Evaluation(
            accuracy=right / count,
            samples=count,
            classes=len(known),
            unknown_labels=tuple(sorted({item.label for item in dataset.samples} - known)),
            nodes=len(snapshot.ensemble.nodes),
            fenced=tuple(sorted(snapshot.view.fenced)),
            generation=snapshot.view.generation,
            seconds=time.perf_counter() - started,
            bad_files=tuple(bad_files),
        )

    # -- changes --------------------------------------------------------------------------------

    def plan(self, request: ForgetRequest) -> Plan:
        """What carrying out a request would do and take; nothing changes.

        Raises:
            UnknownIdError: a sample, owner or source has no live sample.
        """
        return self._plan(self.find(request))

    def find(self, request: ForgetRequest) -> tuple[Record, ...]:
        """What the store records of the samples that a request names, by id; changes nothing.

        Raises:
            UnknownIdError: a sample, owner or source has no live sample.
        """
        return records_named(self.store, request)

    def knows(self, request: ForgetRequest) -> bool:
        """Whether a request with this key was accepted before; `forget` then changes nothing."""
        return self.store.request_of(request.key) is not None

    def forget(self, request: ForgetRequest, progress: Progress = silent) -> ChangeOutcome:
        """Carry out a request, from acceptance to receipt.

        When it returns, the influence state is byte-identical to that of a store that never saw
        the samples, and nothing derived from them is left under the store that could be read or
        tried out: the ledger seals states of the past, and what opens them is gone. A key that was
        used before forgets nothing more; if its request is unfinished, it is carried on.

        Raises:
            UnknownIdError: a sample, owner or source has no live sample; nothing has changed.
        """
        with self._change:
            check_environment(self.store)
            return self._forget(request, progress)

    def _forget(self, request: ForgetRequest, progress: Progress) -> ChangeOutcome:
        started = time.perf_counter()
        samples, fenced = 0, None
        if not self.knows(request):
            records = self.find(request)
            plan = self._plan(records)
            self.store.accept(
                request.key, "forget", [item.id for item in records], plan.fenced, days=request.days
            )
            samples, fenced = len(records), time.perf_counter() - started
        carried = resume(self.store, _node_progress(progress), self._answerer)
        outcome = self._outcome("forget", Added(carried, samples, 0, ()), started)
        published = None if carried is None else carried.published_at - started
        return replace(
            outcome,
            seconds_to_fence=fenced,
            seconds_to_publish=published,
            request=request.key,
        )

    def add(
        self, data: Data, *, on_bad_file: OnBadFile = "stop", progress: Progress = silent
    ) -> ChangeOutcome:
        """Add the new samples of ``data``; the result is the same as if they had been fitted.

        Raises:
            DataError: an id is in the store with another label, owner or source.
            BadFileError: a file is bad and ``on_bad_file`` is "stop"; nothing has changed.
        """
        with self._change:
            check_environment(self.store)
            started = time.perf_counter()
            if self.store.unfinished():  # resuming also clears what an interrupted add has staged
                resume(self.store, _node_progress(progress), self._answerer)
            added = add_samples(self.store, _dataset(data), self.backbone, on_bad_file, progress)
            return self._outcome("add", added, started)

    def verify(
        self, nodes: Sequence[int] | None = None, progress: Progress = silent
    ) -> Verification:
        """Fit nodes from scratch in a fresh process and compare every byte; see `verify`."""
        return verify(
            self.store.path, nodes, lambda done, total: progress("verifying", done, total, "nodes")
        )

    def copy_to(self, path: Path) -> None:
        """Copy the store to ``path``, which must not exist; the copy is a store of its own.

        Raises:
            StoreExistsError: something is there.
        """
        self.store.copy_to(path)

    # -- facts ----------------------------------------------------------------------------------

    @property
    def graph(self) -> ShardGraph:
        """The shard graph."""
        return ShardGraph.from_json(self.store.config.graph)

    @property
    def backbone(self) -> Backbone:
        """The frozen encoder, loaded when it is first needed.

        Raises:
            EnvironmentChangedError: the installed encoder is not the one the store was fitted with.
        """
        if self._backbone is None:
            wanted = self.store.config.backbone
            loaded = open_backbone(
                str(wanted["name"]), str(wanted["layer"]), shape=self.token_shape
            )
            if loaded.digest != wanted["digest"]:
                raise EnvironmentChangedError(
                    "The installed encoder differs from the one this store was fitted with.",
                    advice="Install the version of the encoder that the store was made with.",
                )
            self._backbone = loaded
        return self._backbone

    def status(self) -> dict[str, Any]:
        """What the store holds, as JSON."""
        status = asdict(self.store.status())
        config = self.store.config
        return {
            **status,
            "slower": list(slower_paths(config.settings, str(config.backbone["name"]))),
            "backbone": f"{config.backbone['name']}:{config.backbone['layer']}",
            "classes": len(self.classes),
            "graph": str(config.graph["name"]),
            "seed": config.seed,
        }

    def describe_graph(
        self,
        *,
        save: Path | None = None,
        samples: Iterable[str] = (),
        owners: Iterable[str] = (),
    ) -> dict[str, Any]:
        """The graph's shape and what a request costs, as JSON; optionally drawn or written.

        ``edges`` counts reads of shards other than a node's own; ``nodes`` those that exist.

        Raises:
            UnknownIdError: a sample or owner to be marked has no live sample.
            GraphError: ``save`` has another suffix than .svg, .png and .json.
            StoreError: ``save`` cannot be written.
        """
        view = self.store.view()
        reader = StoreReader(self.store, view)
        graph = reader.setting.graph
        plan = None
        marked, marked_owners = tuple(samples), tuple(owners)
        if marked or marked_owners:
            plan = self.plan(ForgetRequest.of(samples=marked, owners=marked_owners))
        expected = request_cost(graph, reader.sizes)
        if save is not None:
            save_graph(graph, save, plan, expected)
        return {
            "name": graph.name,
            "shards": graph.shards,
            "nodes": len(view.nodes),
            "samples": view.samples,
            "edges": sum(len({*node.reads} - {node.home}) for node in graph.nodes),
            "cost": expected.to_json(),
            **({"touched": plan.to_json()} if plan else {}),
        }

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _change(self) -> threading.RLock:
        """Held while the store changes, so that threads of one process take turns.

        Raises:
            StoreError: the store is open for reading only.
        """
        self.store.require_writing()
        return self._changing

    @property
    def _batch_size(self) -> int:
        return int(self.store.config.settings["batch_size"])

    def _plan(self, records: Sequence[Record]) -> Plan:
        reader = StoreReader(self.store, self.store.view())
        tuning = {record.id for record in reader.tuning_records()}
        left = tuning - {record.id for record in records}
        return plan_change(
            reader.setting.graph,
            reader.sizes,
            Counter(record.shard for record in records),
            epochs=reader.setting.epochs,
            speed=measured_speed(self.store),
            tuning_samples=len(left) if left != tuning else 0,
        )

    def _outcome(self, action: str, added: Added | None, started: float) -> ChangeOutcome:
        view = self.store.view()
        carried = added.carried if added is not None else None
        return ChangeOutcome(
            action=action,
            samples=added.samples if added is not None else 0,
            nodes_refit=carried.refit if carried else (),
            nodes_dropped=carried.dropped if carried else (),
            nodes_subtracted=carried.subtracted if carried else (),
            samples_refit=carried.samples_refit if carried else 0,
            generation=view.generation,
            digest=view.digest,
            seconds=time.perf_counter() - started,
            passed_over=added.passed_over if added is not None else 0,
            bad_files=added.bad_files if added is not None else (),
        )


def save_graph(graph: ShardGraph, path: Path, plan: Plan | None, cost: Cost) -> None:
    """Draw a graph (.svg, .png), with what a plan touches marked, or write it as .json.

    Raises:
        GraphError: another suffix.
        StoreError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        text = json.dumps(graph.to_json(), indent=2, sort_keys=True) + "\n"
        write_atomic(path, text.encode())
        return
    if suffix not in (".svg", ".png"):
        raise GraphError(
            f"Cannot save a graph as {path.name!r}.",
            advice="Use a name ending in .svg, .png or .json.",
        )
    picture.draw(
        graph,
        path,
        touched_shards=plan.shards if plan else (),
        touched_nodes=(*plan.refit, *plan.dropped) if plan else (),
        cost=cost,
    )


def _node_progress(progress: Progress) -> NodeProgress:
    return lambda done, total: progress("fitting", done, total, "nodes")


def _dataset(data: Data) -> Dataset:
    return open_dataset(data) if isinstance(data, str | os.PathLike) else data
