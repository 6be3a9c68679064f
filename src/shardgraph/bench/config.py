"""What a run of the comparison covers: a JSON file, with nothing of it in the code."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from shardgraph.bench.methods.catalogue import FAMILIES, Spec
from shardgraph.errors import UsageError

DEFAULT, QUICK = "default", "quick"
"""Configurations that come with the package."""


@dataclass(frozen=True)
class Streams:
    """Deletions one after the other, looked at now and then.

    Attributes:
        methods: who takes part.
        checkpoints: numbers of deletions after which accuracy and cost are measured, ascending.
        orders: ``uniform``, or ``skewed``: samples of source 0 are asked for twice as often as
            those of source 1, and so on.
        sources: made-up sources that the samples are dealt over by a hash.
        seeds: of the methods and of the orders; None for those of the configuration.
    """

    methods: tuple[Spec, ...] = ()
    checkpoints: tuple[int, ...] = (0, 100, 1000, 2000)
    orders: tuple[str, ...] = ("uniform", "skewed")
    sources: int = 8
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class BenchConfig:
    """One run of the comparison.

    Attributes:
        seeds: every seeded method is fitted with each.
        requests: single deletions measured per fit, at most.
        request_seconds: no further deletion is measured after so many processor seconds.
        uneven_requests: deletions measured, whatever they take, where a few cost far more than
            the others: a hub, or a graph in which some shards are read and most only tallied.
        tuning: settings to choose from, see `shardgraph.bench.tuning`.
        methods: what is compared.
        streams: long streams of deletions.
        latency: methods whose deletions are timed through a store; those with a shard graph.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    requests: int = 3
    request_seconds: float = 10.0
    uneven_requests: int = 16
    tuning: dict[str, Any] = field(default_factory=dict)
    methods: tuple[Spec, ...] = ()
    streams: Streams = field(default_factory=Streams)
    latency: tuple[Spec, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> BenchConfig:
        """Read a configuration.

        Raises:
            UsageError: an unknown setting or method.
        """
        if not isinstance(value, Mapping):
            raise UsageError("A configuration is a JSON object.")
        given = dict(value)
        _refuse_unknown(cls, given)
        streams = dict(given.pop("streams", {}))
        _refuse_unknown(Streams, streams)
        for name in ("checkpoints", "orders", "seeds"):
            if streams.get(name) is not None:
                streams[name] = tuple(streams[name])
        streams["methods"] = _specs(streams.get("methods", ()))
        for name in ("methods", "latency"):
            given[name] = _specs(given.get(name, ()))
        given["seeds"] = tuple(given.get("seeds", (0, 1, 2)))
        return cls(**given, streams=Streams(**streams))

    def only(self, families: Sequence[str]) -> BenchConfig:
        """The same run with these families of methods alone.

        Raises:
            UsageError: there is no such family.
        """
        if unknown := sorted(set(families) - set(FAMILIES)):
            raise UsageError(
                f"There is no method {unknown[0]!r}.",
                advice=f"Choose from: {', '.join(sorted(FAMILIES))}.",
            )

        def kept(specs: Sequence[Spec]) -> tuple[Spec, ...]:
            return tuple(spec for spec in specs if spec.family in families)

        return replace(
            self,
            methods=kept(self.methods),
            streams=replace(self.streams, methods=kept(self.streams.methods)),
            latency=kept(self.latency),
        )


def read_config(name: str | Path) -> BenchConfig:
    """The configuration of a JSON file, or of `DEFAULT` or `QUICK`.

    Raises:
        UsageError: the file cannot be read, or is no configuration.
    """
    try:
        if name in (DEFAULT, QUICK):
            folder = resources.files("shardgraph.bench") / "configs"
            text = (folder / f"{name}.json").read_text()
        else:
            text = Path(name).read_text()
        return BenchConfig.from_json(json.loads(text))
    except OSError as error:
        raise UsageError(
            f"Cannot read {name}: {error.strerror}.", advice="Check the path."
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{name} is no configuration: {error}.") from error


def _specs(values: Sequence[Mapping[str, Any]]) -> tuple[Spec, ...]:
    """Specs from JSON; a list of numbers of shards or nodes stands for one spec of each."""
    found: list[Spec] = []
    for value in values:
        lists = {name: item for name, item in value.items() if isinstance(item, list)}
        choices = itertools.product(*lists.values())
        chosen = [dict(zip(lists, choice, strict=True)) for choice in choices]
        found += [Spec.from_json({**value, **choice}) for choice in chosen]
    return tuple(found)


def _refuse_unknown(kind: type[Any], given: Mapping[str, Any]) -> None:
    known = {item.name for item in dataclasses.fields(kind)}
    if unknown := sorted(set(given) - known):
        raise UsageError(
            f"Unknown setting of a comparison: {', '.join(unknown)}.",
            advice=f"Known settings: {', '.join(sorted(known))}.",
        )
