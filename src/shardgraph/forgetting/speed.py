"""How fast this machine refits, measured so that a plan can say what it will take."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace

from shardgraph.forgetting.plan import Speed
from shardgraph.forgetting.reading import StoreReader
from shardgraph.forgetting.refit import fit_nodes
from shardgraph.store import Store

_NOTE = "speed"
_FEW, _MORE = 1, 4


def measured_speed(store: Store) -> Speed | None:
    """The speed measured when the store was fitted, None if there is none."""
    text = store.note(_NOTE)
    return None if text is None else Speed(**json.loads(text))


def measure_speed(store: Store) -> None:
    """Fit the node of median size for one epoch and for four, and note the line through both.

    The weights are thrown away. The figure is a forecast for one node at a time; nodes fitted
    side by side are faster.
    """
    view = store.view()
    reader = StoreReader(store, view)
    graph, sizes = reader.setting.graph, reader.sizes
    loads = sorted((sum(sizes[s] for s in graph.nodes[node].reads), node) for node in view.nodes)
    loads = [(samples, node) for samples, node in loads if samples]
    if not loads:
        return
    samples, node = loads[len(loads) // 2]
    seconds = []
    for epochs in (_FEW, _FEW, _MORE):  # the first warms up
        recipe = replace(reader.setting.nodes.recipe, epochs=epochs)
        nodes = replace(reader.setting.nodes, recipe=recipe)
        setting = replace(reader.setting, nodes=nodes)
        started = time.perf_counter()
        fit_nodes([node], setting, reader.content)
        seconds.append(time.perf_counter() - started)
    per_pass = max(0.0, seconds[2] - seconds[1]) / (samples * (_MORE - _FEW))
    speed = Speed(per_pass, max(0.0, seconds[1] - per_pass * samples * _FEW))
    store.set_note(_NOTE, json.dumps(asdict(speed)))
