"""Where a sample goes: the keyed hash of its owner or id, within the pool of its source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from shardgraph.data.sample import Sample
from shardgraph.errors import GraphError
from shardgraph.graph.shard_graph import Pool, ShardGraph
from shardgraph.identity import ShardId, shard_position


def unit_of(sample: Sample) -> str:
    """The name that is hashed: ``o:`` and the owner, or ``s:`` and the id where there is none.

    The prefixes keep an owner and a sample of one name apart.
    """
    return f"s:{sample.id}" if sample.owner is None else f"o:{sample.owner}"


@dataclass(frozen=True)
class Assignment:
    """The map from samples to shards: a pure function of (seed, unit, pool of the source).

    Guaranteed: no sample's shard depends on another sample, on the order of arrival or on how full
    a shard is, so adding or removing samples moves none; and the samples of one owner within one
    pool share a shard.

    Not guaranteed: equal shard sizes (they vary as uniform random draws do), nor one shard for an
    owner whose samples come from sources of different pools: there is then one per pool.
    """

    graph: ShardGraph
    seed: int

    def shard_of(self, sample: Sample) -> ShardId:
        """The shard of ``sample``.

        Raises:
            GraphError: the graph has no pool for the sample's source.
        """
        pool = self._pool_of(sample)
        return ShardId(pool.shards[shard_position(self.seed, unit_of(sample)) % len(pool.shards)])

    def _pool_of(self, sample: Sample) -> Pool:
        pool = self._pools.get(sample.source, self._default)
        if pool is None:
            source = "without a source" if sample.source is None else f"from {sample.source!r}"
            raise GraphError(
                f"The graph has no shards for samples {source}.",
                advice="Name the source in a pool, or add a pool for all other sources.",
            )
        return pool

    @cached_property
    def _pools(self) -> dict[str | None, Pool]:
        return {source: pool for pool in self.graph.pools for source in pool.sources or ()}

    @cached_property
    def _default(self) -> Pool | None:
        return next((pool for pool in self.graph.pools if pool.sources is None), None)
