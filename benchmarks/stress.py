"""Random histories on demand: every step against an independent reference, many states against
fits from scratch in another process. Nothing may differ.

    python benchmarks/stress.py [--histories 5000] [--steps 50] [--minutes 0] [--seed NAME]

Histories are those of ``tests/promises``, over each of its graphs in turn, with small random
activations. One process per core; the record is written anew after every round, so a run that is
stopped, or reaches ``--minutes``, says how far it came. A failure ends it, with the shortest
history that shows it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from common import record

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "promises"))

from harness.histories import Ran, run
from harness.world import TOPOLOGIES


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--histories", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=0, help="stop after; 0: never")
    parser.add_argument("--at-once", type=int, default=30, help="over each graph in a round")
    parser.add_argument(
        "--fresh-every", type=int, default=25, help="steps between fits from scratch elsewhere"
    )
    parser.add_argument("--seed", default=time.strftime("%Y-%m-%d"))
    options = parser.parse_args()
    rounds: list[Ran] = []
    started = time.monotonic()
    while sum(ran.histories for ran in rounds) < options.histories:
        seed = f"{options.seed}/{len(rounds)}"
        rounds.append(run(TOPOLOGIES, options.at_once, options.steps, seed, options.fresh_every))
        path = record("stress", vars(options), summary(rounds))
        print(f"{path.name}: {rounds[-1]}", flush=True)
        if options.minutes and time.monotonic() - started > options.minutes * 60:
            break


def summary(rounds: list[Ran]) -> dict[str, object]:
    """All rounds together."""
    rules: Counter[str] = Counter()
    for ran in rounds:
        rules.update(ran.rules)
    return {
        "cpu_seconds": round(sum(ran.cpu_seconds for ran in rounds)),
        "graphs": list(TOPOLOGIES),
        "mismatches": [what for ran in rounds for what in ran.mismatches],
        "rules": dict(sorted(rules.items())),
        "seconds": round(sum(ran.wall_seconds for ran in rounds)),
        "states_fitted_elsewhere": sum(ran.fresh for ran in rounds),
        "steps": sum(ran.steps for ran in rounds),
        "whole_histories": sum(ran.histories for ran in rounds),
    }


if __name__ == "__main__":
    main()
