"""Membership inference on real activations: does anything of a forgotten sample still show?

    python benchmarks/membership.py [--data cub100] [--classes 16] [--shadows 32] [--targets 16]
    python benchmarks/membership.py --plot        # draw the picture from the record again

The proof is the comparison of bytes (`shardgraph verify`). This belt is worn beside it, and could
show a mistake that the proof shares. The attack is in `attack.py`. The attacker knows the encoder,
all samples and labels, the recipe, the graph and the *seed* of the store, and only not which
samples are in it. There are two: one has the *answers* of the whole ensemble for a sample, the
other has the *open store* and adds up the evidence of each node that the sample influences.

A target is a store. By lot, for each target anew, half of the samples are fitted and stay
(**members**), a quarter are fitted and then forgotten by one request (**forgotten**), a quarter
are never in it (**never**). Members against never says what the attack can do; forgotten against
never is the question. The lot looks at nothing, so where forgetting is exact the two groups differ
by chance alone, and the area under the curve is 0.5. **Planted leaks** show that the attack would
see one: in k of the nodes that a forgotten sample influences, the file from before the request is
put back (a reader that was not refitted, a tally that was not subtracted).

Attacked are all samples, and the third that shadow models memorise most: chosen on shadow models
alone, before any target is fitted. No setting was changed after a look at targets.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from attack import Shadows, confidence, roc, separation
from common import RESULTS, activations, data_folder, record
from matplotlib.figure import Figure

from shardgraph.data.arrays import ArrayDataset
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.graph.assignment import Assignment
from shardgraph.model import SafeModel
from shardgraph.nodes.ensemble import combine

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "membership.svg"
MEMBER, FORGOTTEN, NEVER = 0, 1, 2
SEED = 20
KINDS = {
    "nodes that read": FitSettings(shards=8, graph="ring:3", seed=SEED),
    "nodes that tally": FitSettings(shards=8, graph="tallied:8", seed=SEED),
}
LEAKS = {"nodes that read": (0, 1, 2, 3), "nodes that tally": (0, 1, 2, 4, 7)}
ROUNDS = 1000
CURVE_POINTS = 200


class World:
    """The samples that may be in a store, and how a store is fitted on some of them."""

    def __init__(self, data: str, classes: int, settings: FitSettings) -> None:
        tokens, labels, ids = activations(data_folder() / data / "train")
        self.classes = sorted(set(labels))[:classes]
        rows = [row for row, label in enumerate(labels) if label in set(self.classes)]
        self.tokens = tokens[rows]
        self.labels = [labels[row] for row in rows]
        self.ids = [ids[row] for row in rows]
        self.truth = np.array([self.classes.index(label) for label in self.labels])
        self.settings = settings
        graph = settings.build_graph()
        assignment = Assignment(graph, settings.seed)
        shards = [int(assignment.shard_of(sample)) for sample in self.dataset().samples]
        count = len(graph.nodes)
        self.influenced = [
            sorted(graph.influenced_by([shard]), key=lambda node: (node - shard - 1) % count)
            for shard in shards
        ]

    def __len__(self) -> int:
        return len(self.ids)

    def dataset(self, rows: Any = None) -> ArrayDataset:
        chosen = range(len(self)) if rows is None else rows
        return ArrayDataset(
            self.tokens[list(chosen)],
            [self.labels[row] for row in chosen],
            ids=[self.ids[row] for row in chosen],
        )

    def fit(self, rows: np.ndarray, folder: str) -> SafeModel:
        model, _ = SafeModel.fit(self.dataset(rows), Path(folder) / "store", self.settings)
        return model

    def votes(self, model: SafeModel) -> np.ndarray:
        """What each node says of every sample, [nodes, B, C]."""
        if model.classes != tuple(self.classes):
            raise RuntimeError("A class is missing; take more samples or fewer classes.")
        by_node = model.node_probabilities(self.tokens)
        return np.stack([by_node[node] for node in sorted(by_node)])

    def sure(self, votes: np.ndarray) -> np.ndarray:
        """Confidence in the true label: the ensemble's, then each node's, [1 + nodes, B]."""
        together = combine(votes, (votes > 0).any(axis=1))
        return np.concatenate(
            [confidence(together, self.truth)[None], confidence(votes, self.truth)]
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="cub100")
    parser.add_argument("--classes", type=int, default=16, help="the first classes by name")
    parser.add_argument("--shadows", type=int, default=32)
    parser.add_argument("--targets", type=int, default=16)
    parser.add_argument("--plot", action="store_true", help="only draw the record")
    options = parser.parse_args()
    if not options.plot:
        results: dict[str, Any] = {}
        for kind, settings in KINDS.items():
            world = World(options.data, options.classes, settings)
            results[kind] = measure(kind, world, options.shadows, options.targets)
        config = {name: value for name, value in vars(options).items() if name != "plot"}
        config |= {
            "bootstrap_rounds": ROUNDS,
            "graphs": {k: str(s.graph) for k, s in KINDS.items()},
        }
        record("membership", config, results)
    content = json.loads((RESULTS / "membership.json").read_text())
    draw(content["results"], PICTURE)
    print(table(content["results"]))


def measure(kind: str, world: World, shadows: int, targets: int) -> dict[str, Any]:
    """Fit shadow models, choose samples, then fit targets and attack them."""
    started, processor = time.perf_counter(), time.process_time()
    member = halves(shadows, len(world))
    said = [world_said(world, np.flatnonzero(row), kind) for row in member]
    learnt = Shadows.of(np.stack(said), member)
    memorised = learnt.memorised[0]
    chosen = memorised >= np.quantile(memorised, 2 / 3)
    lots, sure = [], []
    for target in range(targets):
        lots.append(lot(target, len(world)))
        sure.append(attacked(world, lots[-1], LEAKS[kind]))
        print(kind, "target", target, round(time.perf_counter() - started), "s", flush=True)
    result: dict[str, Any] = {
        "memorised_most": int(chosen.sum()),
        "samples": len(world),
        "processor_seconds": time.process_time() - processor,
        "seconds": time.perf_counter() - started,
    }
    roles = np.stack(lots)
    everyone = np.ones(len(world), bool)
    for group, kept in (("memorised most", chosen), ("all", everyone)):
        result[group] = {
            attacker: compared(
                scores_of(attacker, world, learnt, sure),
                roles,
                kept,
                LEAKS[kind],
                curves=kept is chosen,
            )
            for attacker in ("answers", "open store")
        }
    return result


def world_said(world: World, rows: np.ndarray, kind: str) -> np.ndarray:
    """What one shadow model, fitted on ``rows``, says of every sample."""
    with tempfile.TemporaryDirectory() as folder, world.fit(rows, folder) as model:
        print(kind, "shadow", flush=True)
        return world.sure(world.votes(model))


def attacked(world: World, roles: np.ndarray, leaks: tuple[int, ...]) -> np.ndarray:
    """What a target says after its request, by number of nodes left stale: [leaks, 1 + nodes, B].

    Stale are the first k of the nodes that a sample influences, counted from the number behind that
    of its shard, so that all nodes take turns. Where k is 0 nothing is touched.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        world.fit(np.flatnonzero(roles != NEVER), folder) as model,
    ):
        before = world.votes(model)
        ids = [world.ids[row] for row in np.flatnonzero(roles == FORGOTTEN)]
        model.forget(ForgetRequest.of(samples=ids))
        after = world.votes(model)
    found = []
    for count in leaks:
        sure = world.sure(after)
        if count:
            for stale, rows in leaky(world, count).items():
                mixed = after.copy()
                mixed[list(stale)] = before[list(stale)]
                sure[:, rows] = world.sure(mixed)[:, rows]
        found.append(sure)
    return np.stack(found)


def leaky(world: World, count: int) -> dict[tuple[int, ...], list[int]]:
    """Sets of ``count`` nodes to be left stale, and the samples each is the leak for."""
    sets: dict[tuple[int, ...], list[int]] = {}
    for row, nodes in enumerate(world.influenced):
        sets.setdefault(tuple(nodes[:count]), []).append(row)
    return sets


def halves(models: int, samples: int) -> np.ndarray:
    """Who is a member of each shadow model: half of the models for each sample, bool."""
    generator = np.random.Generator(np.random.Philox([SEED, 0]))
    order = generator.permuted(np.tile(np.arange(models)[:, None], samples), axis=0)
    return order < models // 2


def lot(target: int, samples: int) -> np.ndarray:
    """The role of each sample in a target, int [samples]."""
    generator = np.random.Generator(np.random.Philox([SEED, 1 + target]))
    roles = np.repeat([MEMBER, MEMBER, FORGOTTEN, NEVER], -(-samples // 4))[:samples]
    return generator.permutation(roles)


def scores_of(attacker: str, world: World, learnt: Shadows, sure: list[np.ndarray]) -> np.ndarray:
    """Scores [leaks, targets, B] of either attacker."""
    every = np.stack([[learnt.scores(leak) for leak in target] for target in sure], axis=1)
    if attacker == "answers":
        return every[:, :, 0]
    sees = np.zeros(every.shape[2:])
    for row, nodes in enumerate(world.influenced):
        sees[[1 + node for node in nodes], row] = 1
    return (every * sees).sum(axis=2)


def compared(
    scores: np.ndarray,
    roles: np.ndarray,
    kept: np.ndarray,
    leaks: tuple[int, ...],
    *,
    curves: bool,
) -> dict[str, Any]:
    """Each group against those that were never there."""

    def against_never(values: np.ndarray, role: int) -> dict[str, Any]:
        counted = ((roles == role) | (roles == NEVER)) & kept
        found = separation(values, roles == role, counted, rounds=ROUNDS, seed=SEED)
        return found | (
            {"curve": curve(values[counted], (roles == role)[counted])} if curves else {}
        )

    return {
        "members": against_never(scores[0], MEMBER),
        "forgotten": against_never(scores[0], FORGOTTEN),
        "leaks": {
            str(count): against_never(values, FORGOTTEN)
            for count, values in zip(leaks, scores, strict=True)
            if count
        },
    }


def curve(scores: np.ndarray, positive: np.ndarray) -> list[list[float]]:
    """The curve at rates of false positives that are evenly spread on a logarithmic axis."""
    false, true = roc(scores, positive)
    at = np.geomspace(1e-3, 1, CURVE_POINTS)
    heights = [true[np.flatnonzero(false <= rate + 1e-12)[-1]] for rate in at]
    return [[round(float(x), 5), round(float(y), 5)] for x, y in zip(at, heights, strict=True)]


def table(results: dict[str, Any]) -> str:
    """The record as a table for people."""
    lines = [f"{'':58} AUC    95 % interval   TPR at 1 % FPR"]
    for kind, result in results.items():
        for group in ("memorised most", "all"):
            for attacker, found in result[group].items():
                rows = {"members": found["members"], "forgotten": found["forgotten"]}
                rows |= {f"{count} stale": leak for count, leak in found["leaks"].items()}
                for name, row in rows.items():
                    low, high = row["auc_interval_95"]
                    first, last = row["true_positives_interval_95"]
                    lines.append(
                        f"{kind:17} {group:15} {attacker:11} {name:12} {row['auc']:.3f}"
                        f"  {low:.3f} to {high:.3f}  {row['true_positives_at_1_percent']:6.1%}"
                        f"  ({first:.1%} to {last:.1%})"
                    )
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """For each kind of node: what the answers tell of the samples memorised most, and by leak."""
    mpl.rcParams["svg.hashsalt"] = "shardgraph"
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    styles = {"nodes that read": "#b85608", "nodes that tally": "#3d5878"}
    for kind, colour in styles.items():
        found = results[kind]["memorised most"]["answers"]
        most = str(max(int(count) for count in found["leaks"]))
        for name, row, dash in (
            ("members", found["members"], ":"),
            ("one node left stale", found["leaks"]["1"], "--"),
            ("forgotten", found["forgotten"], "-"),
        ):
            points = np.array(row["curve"])
            axes[0].plot(*points.T, dash, color=colour, label=f"{kind}: {name}")
        doses = [0, *sorted(int(count) for count in found["leaks"])]
        rows = [found["forgotten"], *[found["leaks"][str(count)] for count in doses[1:]]]
        heights = [row["auc"] for row in rows]
        low, high = np.array([row["auc_interval_95"] for row in rows]).T
        shares = [dose / int(most) for dose in doses]
        axes[1].errorbar(
            shares,
            heights,
            yerr=[heights - low, high - heights],
            marker="o",
            capsize=3,
            color=colour,
            label=kind,
        )
    axes[0].plot([1e-3, 1], [1e-3, 1], color="#94a3b8", lw=0.8, label="a coin")
    axes[0].set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1.05))
    axes[0].set(xlabel="false positive rate", ylabel="true positive rate")
    axes[1].axhline(0.5, color="#94a3b8", lw=0.8)
    axes[1].set(
        xlabel="share of the nodes concerned that were left stale", ylabel="area under curve"
    )
    axes[0].set_title("Who was in the data? Most memorised samples", fontsize=10)
    axes[1].set_title("Forgotten against never seen, with a planted leak", fontsize=10)
    for axis in axes:
        axis.legend(fontsize=7.5, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
