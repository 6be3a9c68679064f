"""The shard graph: who reads whom, where a sample goes, and what forgetting costs. No torch.

`shardgraph.graph.picture` is not imported here: only those who draw load matplotlib.
"""

from shardgraph.graph.assignment import Assignment
from shardgraph.graph.cost import Cost, Work, expected_cost_of, request_cost, shard_rates
from shardgraph.graph.node import Node, Pool
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.graph.topologies import (
    by_source,
    cliques,
    complete,
    from_edges,
    hub,
    isolated,
    parse,
    random_regular,
    ring,
    source_pools,
    two_level,
)

__all__ = [
    "Assignment",
    "Cost",
    "Node",
    "Pool",
    "ShardGraph",
    "Work",
    "by_source",
    "cliques",
    "complete",
    "expected_cost_of",
    "from_edges",
    "hub",
    "isolated",
    "parse",
    "random_regular",
    "request_cost",
    "ring",
    "shard_rates",
    "source_pools",
    "two_level",
]
