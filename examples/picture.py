"""Draw the picture of the README: 64 shards in a ring of three, and one request.

The shard that loses samples is in its node's colour; the three nodes that read it are refitted.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shardgraph.graph.cost import request_cost
from shardgraph.graph.picture import draw
from shardgraph.graph.topologies import ring

SHARDS, READS, SAMPLES_PER_SHARD, TOUCHED = 64, 3, 50, 11


def main(path: Path) -> None:
    """Write the picture to ``path``, an .svg or .png file."""
    graph = ring(SHARDS, READS)
    cost = request_cost(graph, [SAMPLES_PER_SHARD] * SHARDS)
    draw(graph, path, touched_shards=[TOUCHED], cost=cost)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/graph.svg"))
