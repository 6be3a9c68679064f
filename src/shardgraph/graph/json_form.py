"""The JSON form of a shard graph, in a store or in a file that somebody wrote.

::

    {"format": 1, "shards": 3, "name": "mine",
     "nodes": [{"home": 0, "reads": [0, 1]}, {"home": 1, "reads": [1]}, {"home": 2, "reads": [2]}],
     "pools": [{"shards": [0, 1, 2], "sources": null}]}

``format``, ``shards`` and ``nodes`` must be there. Instead of ``nodes``, ``edges`` may list pairs
``[node, shard it reads]``: then there is one node per shard, and each reads its own shard anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shardgraph.errors import GraphError
from shardgraph.graph.node import Node, Pool, nodes_from_edges

FORMAT = 1
"""Version of the JSON form that this program writes, and the newest that it reads."""

GraphFields = tuple[int, tuple[Node, ...], tuple[Pool, ...], str]
"""Number of shards, nodes, pools and name."""

_FIELDS = frozenset({"format", "name", "shards", "nodes", "edges", "pools"})
_NODE_FIELDS = frozenset({"home", "reads", "tallies", "kind"})
_POOL_FIELDS = frozenset({"shards", "sources"})


def graph_json(
    shards: int, nodes: Sequence[Node], pools: Sequence[Pool], name: str
) -> dict[str, Any]:
    """The JSON form of a graph."""
    return {
        "format": FORMAT,
        "name": name,
        "shards": shards,
        "nodes": [
            {
                "home": node.home,
                "reads": list(node.reads),
                "tallies": list(node.tallies),
                "kind": node.kind,
            }
            for node in nodes
        ],
        "pools": [
            {
                "shards": list(pool.shards),
                "sources": None if pool.sources is None else list(pool.sources),
            }
            for pool in pools
        ],
    }


def graph_fields(value: object) -> GraphFields:
    """What a JSON value says of a graph, with types checked; whether it is possible is not.

    Shards may come in any order. Without pools, none are returned.

    Raises:
        GraphError: a newer format, an unknown or missing field, or a wrong type.
    """
    _check_format(value)
    fields = _object("The graph", value, _FIELDS, required=("format", "shards"))
    if ("nodes" in fields) == ("edges" in fields):
        raise GraphError(
            "A graph file needs either nodes or edges.",
            advice='Write "nodes": [...] or "edges": [[node, shard], ...].',
        )
    shards = _integer("shards", fields["shards"])
    name = _text("name", fields.get("name", "custom"))
    pools = tuple(_pool(number, pool) for number, pool in _items("pools", fields.get("pools", [])))
    return shards, _nodes(shards, fields), pools, name


def _check_format(value: object) -> None:
    """Refuse another format before its fields, which may be unknown here."""
    if not (isinstance(value, Mapping) and "format" in value):
        return
    version = _integer("format", value["format"])
    if version > FORMAT:
        raise GraphError(
            f"This graph has format {version}; this program reads up to {FORMAT}.",
            advice="Install a newer shardgraph.",
        )
    if version < 1:
        raise _wrong("format", "1 or higher")


def _nodes(shards: int, fields: Mapping[str, Any]) -> tuple[Node, ...]:
    if "edges" not in fields:
        return tuple(_node(number, node) for number, node in _items("nodes", fields["nodes"]))
    edges = [_edge(number, edge) for number, edge in _items("edges", fields["edges"])]
    return nodes_from_edges(shards, edges)


def _node(number: int, value: object) -> Node:
    where = f"nodes[{number}]"
    fields = _object(where, value, _NODE_FIELDS, required=("home", "reads"))
    home = fields["home"]
    return Node(
        home=None if home is None else _integer(f"{where}.home", home),
        reads=_shards(f"{where}.reads", fields["reads"]),
        tallies=_shards(f"{where}.tallies", fields.get("tallies", [])),
        kind=_text(f"{where}.kind", fields.get("kind", "default")),
    )


def _pool(number: int, value: object) -> Pool:
    where = f"pools[{number}]"
    fields = _object(where, value, _POOL_FIELDS, required=("shards",))
    sources = fields.get("sources")
    return Pool(
        shards=_shards(f"{where}.shards", fields["shards"]),
        sources=None
        if sources is None
        else tuple(_text(f"{where}.sources", name) for _, name in _items(where, sources)),
    )


def _edge(number: int, value: object) -> tuple[int, int]:
    where = f"edges[{number}]"
    pair = [_integer(where, end) for _, end in _items(where, value)]
    if len(pair) != 2:
        raise _wrong(where, "a pair [node, shard]")
    return pair[0], pair[1]


def _shards(where: str, value: object) -> tuple[int, ...]:
    return tuple(sorted(_integer(where, shard) for _, shard in _items(where, value)))


def _object(
    where: str, value: object, known: frozenset[str], required: tuple[str, ...]
) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(where, "an object")
    for name in value:
        if name not in known:
            raise GraphError(
                f"{where} has an unknown field {name!r}.",
                advice=f"The fields are {', '.join(sorted(known))}.",
            )
    for name in required:
        if name not in value:
            raise GraphError(f"{where} lacks the field {name!r}.", advice="Add it.")
    return value


def _items(where: str, value: object) -> enumerate[object]:
    if not isinstance(value, list | tuple):
        raise _wrong(where, "a list")
    return enumerate(value)


def _integer(where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(where, "a whole number")
    return value


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "text")
    return value


def _wrong(where: str, wanted: str) -> GraphError:
    return GraphError(f"{where} is not {wanted}.", advice="Correct it and try again.")
