"""shardgraph: adapt a frozen encoder with a graph of light adapters, and forget exactly."""

from __future__ import annotations

__version__ = "0.1.0"
