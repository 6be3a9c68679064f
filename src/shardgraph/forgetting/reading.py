"""Read what a store holds, in the terms in which nodes are fitted."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np
import torch

from shardgraph.activations.blob import open_blob
from shardgraph.errors import UnknownIdError
from shardgraph.forgetting.refit import FitSetting, ShardContent
from shardgraph.forgetting.retally import TallyNode
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.identity import NodeId, ShardId, derived_seed, order_key
from shardgraph.nodes import representation as representations
from shardgraph.nodes.closed_form import ClosedFormHead, HeadRule, solve_all
from shardgraph.nodes.projection import Projection
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.representation import Representation, Settings, projection_of
from shardgraph.nodes.tally import Tally
from shardgraph.nodes.tally import from_bytes as tally_from_bytes
from shardgraph.nodes.tally_recipe import TallyRecipe
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.tuning import tuned_rule
from shardgraph.store import Record, Store, StoreConfig, View

_SETTINGS_KEPT = 4
_settings: OrderedDict[str, FitSetting] = OrderedDict()


def fit_setting(config: StoreConfig) -> FitSetting:
    """The graph and the recipes of a configuration, parsed once: a graph may be large."""
    setting = _settings.get(config.digest)
    if setting is None:
        setting = FitSetting(
            graph=ShardGraph.from_json(config.graph),
            nodes=node_settings(config),
            seed=config.seed,
        )
        _settings[config.digest] = setting
        while len(_settings) > _SETTINGS_KEPT:
            _settings.popitem(last=False)
    return setting


def node_settings(config: StoreConfig) -> Settings:
    """The recipes of a configuration, and how its machine may work on them."""
    return Settings(
        recipe=Recipe.from_json(config.recipe["adapter"]),
        tally=TallyRecipe.from_json(config.recipe["tally"]),
        stacked=bool(config.settings["stacked"]),
        features=torch.float64 if config.settings.get("features") == "float64" else torch.float32,
    )


class NodeCache:
    """What is in memory by the digest of its file, so that it is not worked out twice.

    Projections of nodes, and heads solved from tallies. `keep` drops all but those of the current
    generation. Methods may be called from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._projections: dict[str, Projection] = {}
        self._heads: dict[tuple[str, HeadRule], ClosedFormHead] = {}

    def projection(self, digest: str, load: Callable[[], Projection]) -> Projection:
        """The projection of the file with this digest, loaded if it is not here."""
        found = self._projections.get(digest)
        if found is None:
            found = load()
            with self._lock:
                found = self._projections.setdefault(digest, found)
        return found

    def solve(self, tallies: Mapping[str, Tally], rule: HeadRule) -> None:
        """Solve the heads of tallies by the digest of their file; empty tallies have none."""
        filled = {digest: tally for digest, tally in tallies.items() if tally.samples}
        heads = solve_all(list(filled.values()), rule)
        with self._lock:
            self._heads.update(zip(((digest, rule) for digest in filled), heads, strict=True))

    def head(self, digest: str, rule: HeadRule) -> ClosedFormHead | None:
        """The head solved from the tally in the file with this digest, if it is here."""
        return self._heads.get((digest, rule))

    def keep(self, view: View) -> None:
        """Forget whatever comes from files that are not of this generation."""
        nodes, tallies = set(view.nodes.values()), set(view.tallies.values())
        with self._lock:
            self._projections = {key: it for key, it in self._projections.items() if key in nodes}
            self._heads = {key: it for key, it in self._heads.items() if key[0] in tallies}


class StoreReader:
    """The shards of one view of a store. Records are read once per shard and kept.

    Activations are compared with their digest before anything is computed from them. A damaged row
    would otherwise be written on under a new digest, and would leave in a tally what the right one
    no longer takes out.
    """

    def __init__(self, store: Store, view: View, cache: NodeCache | None = None) -> None:
        self.cache = cache or NodeCache()
        self.store = store
        self.view = view
        config = view.config
        self.setting = fit_setting(config)
        self.shape = (int(config.backbone["tokens"]), int(config.backbone["width"]))
        self.content = functools.cache(self._content)

    @property
    def sizes(self) -> list[int]:
        """Live samples per shard, for every shard of the graph."""
        sizes = [0] * self.setting.graph.shards
        for shard, state in self.view.shards.items():
            sizes[shard] = state.samples
        return sizes

    def representation(self, node: int) -> Representation:
        """What a node has learnt; verified against its digest."""
        digest = self.view.nodes[NodeId(node)]
        return representations.from_bytes(node, self.store.read("nodes", node, digest))

    def projection(self, node: int) -> Projection:
        """What gives a node's integer features."""
        digest = self.view.nodes[NodeId(node)]
        return self.cache.projection(digest, lambda: projection_of(self.representation(node)))

    def tally(self, node: int) -> Tally:
        """The tally of a node; verified against its digest."""
        digest = self.view.tallies[NodeId(node)]
        return tally_from_bytes(self.store.read("tallies", node, digest))

    def tally_node(self, node: int) -> TallyNode:
        """A node that only tallies, as `retally` takes it."""
        tallies = self.setting.graph.nodes[node].tallies
        return TallyNode(node, tallies, self.projection(node), lambda: self.tally(node))

    @functools.cached_property
    def head_rule(self) -> HeadRule:
        """The settings of heads: those of the recipe, or tuned on the live samples of its source.

        Samples that a request waits to remove take no part.
        """
        recipe, wanted = self.setting.nodes.tally, self.tuning_records()
        if not wanted:
            return recipe.head_rule()
        names = {record.id for record in wanted}
        found = [
            (order_key(self.setting.seed, record.id), record, shard, row)
            for shard in sorted({record.shard for record in wanted})
            for row, record in enumerate(self.content(shard).records)
            if record.id in names
        ]
        found.sort(key=lambda item: (item[0], item[1].id))
        rows = TokenRows.of([(self.content(shard).tokens, [row]) for _, _, shard, row in found])
        seed = derived_seed(self.setting.seed, "tuning")
        projection = representations.without_data(seed, self.shape[1], recipe)
        labels = [record.label for _, record, _, _ in found]
        dtype = self.setting.nodes.features
        return tuned_rule(projection, rows, labels, recipe.head_rule(), dtype)

    def tuning_records(self) -> tuple[Record, ...]:
        """The samples that heads are tuned on: live, and not waited for by a request."""
        source = self.setting.nodes.tally.tune_on
        if not source:
            return ()
        try:
            return self.store.from_source(source)
        except UnknownIdError:
            return ()

    def _content(self, shard: int) -> ShardContent:
        state = self.view.shards.get(ShardId(shard))
        if state is None:
            return empty_content(self.shape)
        self.store.verify("activations", shard, state.activations)
        tokens = open_blob(self.store.path_of("activations", shard, state.activations))
        return ShardContent(tuple(self.store.records(shard)), tokens)


def empty_content(shape: tuple[int, int]) -> ShardContent:
    """A shard without samples, for activations of ``shape`` (T, D)."""
    return ShardContent((), np.empty((0, *shape), np.float16))
