"""Random histories on demand: every step against an independent reference, many states against
fits from scratch in another process. Nothing may differ.

    python benchmarks/stress.py [--histories 5000] [--steps 50] [--minutes 0] [--go-on]

Histories are those of ``tests/promises``, over each of its graphs in turn, with small random
activations. One process per core; the record is written anew after every round, so a run that is
stopped, or reaches ``--minutes``, says how far it came. ``--go-on`` keeps the runs of the record
there is, with the commit of each, and adds what they lack of ``--histories``. A failure ends it,
with the shortest history that shows it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common import RESULTS, commit, record

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "promises"))

from harness.histories import Ran, run
from harness.world import TOPOLOGIES

Summary = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--histories", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=0, help="stop after; 0: never")
    parser.add_argument("--at-once", type=int, default=30, help="over each graph in a round")
    parser.add_argument(
        "--fresh-every", type=int, default=25, help="steps between fits from scratch elsewhere"
    )
    parser.add_argument("--seed", default=time.strftime("%Y-%m-%d %H:%M"))
    parser.add_argument("--go-on", action="store_true", help="add to the runs of the record")
    options = parser.parse_args()
    earlier = recorded(options.steps) if options.go_on else []
    if options.seed in {one["seed"] for one in earlier}:
        parser.error(f"the record has a run with the seed {options.seed!r}: give another")
    missing = options.histories - sum(one["whole_histories"] for one in earlier)
    rounds: list[Ran] = []
    started, measured = time.monotonic(), commit()
    while sum(ran.histories for ran in rounds) < missing:
        seed = f"{options.seed}/{len(rounds)}"
        rounds.append(run(TOPOLOGIES, options.at_once, options.steps, seed, options.fresh_every))
        mine = {**summary(rounds), "commit": measured, "seed": options.seed}
        path = record("stress", vars(options), together([*earlier, mine]))
        print(f"{path.name}: {rounds[-1]}", flush=True)
        if options.minutes and time.monotonic() - started > options.minutes * 60:
            break


def recorded(steps: int) -> list[Summary]:
    """The runs of the record, if there is one, whose histories must have as many steps."""
    path = RESULTS / "stress.json"
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    if found["config"]["steps"] != steps:
        sys.exit(f"stress.json is of histories of {found['config']['steps']} steps")
    return list(found["results"]["runs"])


def summary(rounds: list[Ran]) -> Summary:
    """All rounds of one run together."""
    rules: Counter[str] = Counter()
    for ran in rounds:
        rules.update(ran.rules)
    return {
        "cpu_seconds": round(sum(ran.cpu_seconds for ran in rounds)),
        "mismatches": [what for ran in rounds for what in ran.mismatches],
        "rules": dict(sorted(rules.items())),
        "seconds": round(sum(ran.wall_seconds for ran in rounds)),
        "states_fitted_elsewhere": sum(ran.fresh for ran in rounds),
        "steps": sum(ran.steps for ran in rounds),
        "whole_histories": sum(ran.histories for ran in rounds),
    }


def together(runs: list[Summary]) -> Summary:
    """All runs, and their totals."""
    totals = ("cpu_seconds", "states_fitted_elsewhere", "steps", "whole_histories")
    return {
        **{name: sum(one[name] for one in runs) for name in totals},
        "graphs": list(TOPOLOGIES),
        "mismatches": [what for one in runs for what in one["mismatches"]],
        "runs": runs,
    }


if __name__ == "__main__":
    main()
