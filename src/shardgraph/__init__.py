"""shardgraph: adapt a frozen encoder with a graph of light adapters, and forget exactly.

The names below are imported when they are first used, so that the command line stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardgraph.classifier import SafeClassifier
    from shardgraph.data.arrays import ArrayDataset
    from shardgraph.forgetting.create import FitSettings
    from shardgraph.forgetting.request import ForgetRequest
    from shardgraph.graph.shard_graph import ShardGraph
    from shardgraph.model import SafeModel
    from shardgraph.nodes.recipe import Recipe

__version__ = "0.1.0"

__all__ = [
    "ArrayDataset",
    "FitSettings",
    "ForgetRequest",
    "Recipe",
    "SafeClassifier",
    "SafeModel",
    "ShardGraph",
]

_HOMES = {
    "ArrayDataset": "shardgraph.data.arrays",
    "FitSettings": "shardgraph.forgetting.create",
    "ForgetRequest": "shardgraph.forgetting.request",
    "Recipe": "shardgraph.nodes.recipe",
    "SafeClassifier": "shardgraph.classifier",
    "SafeModel": "shardgraph.model",
    "ShardGraph": "shardgraph.graph.shard_graph",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
