"""The main job on built-in data, in about two minutes: fit, forget an owner, prove it.

Data: scikit-learn's handwritten digits, as images. Their owners are synthetic: about five samples
each, dealt out by a keyed hash, because the real writers are not recorded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from shardgraph.data.digits import DigitsDataset
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.model import SafeModel
from shardgraph.report import Report, progress_bar


def say(text: str) -> None:
    """One paragraph on standard output."""
    sys.stdout.write(text + "\n\n")
    sys.stdout.flush()


def main(output: Path) -> int:
    """Run the demo; everything it writes is under ``output``. Returns an exit code."""
    train, test = DigitsDataset("train"), DigitsDataset("test")
    say(
        f"Handwritten digits that scikit-learn ships: {len(train.samples)} to fit, "
        f"{len(test.samples)} to test.\nTheir owners are synthetic (dealt out by a keyed hash). "
        "The encoder is EfficientNet-Lite0."
    )
    with progress_bar() as progress:
        settings = FitSettings(shards=64, graph="isolated")
        model, fitted = SafeModel.fit(train, output / "store", settings, progress)
        with model:
            say(Report.of_fit(fitted, output / "store").text)
            tokens = model.encode(test)
            say(f"Accuracy: {accuracy(model, tokens, test):.1%}")
            return forget_an_owner(model, tokens, test, str(train.samples[0].owner), output)


def forget_an_owner(
    model: SafeModel, tokens: np.ndarray, test: DigitsDataset, owner: str, output: Path
) -> int:
    """Forget one owner, and show that only the right nodes changed and that nothing is left."""
    request = ForgetRequest.of(owners=[owner])
    plan = model.plan(request)
    say(f"Owner {owner} asks to be forgotten.\n{Report.of_plan(plan).text}")
    picture = output / "graph.svg"
    model.describe_graph(save=picture, owners=[owner])
    before = model.node_probabilities(tokens)
    say(Report.of_change(model.forget(request)).text)
    after = model.node_probabilities(tokens)
    changed = {node for node in before if not same(before[node], after.get(node))}
    say(
        f"Answers of {len(changed)} of {len(before)} nodes changed: {sorted(changed)}. "
        f"Those that should: {list(plan.fenced)}.\n"
        f"Accuracy now: {accuracy(model, tokens, test):.1%}"
    )
    verification = model.verify()
    say(Report.of_verification(verification).text)
    say(f"Picture of the shard graph, touched nodes marked: {picture}")
    return 0 if verification.equal and changed == set(plan.fenced) else 1


def accuracy(model: SafeModel, tokens: np.ndarray, data: DigitsDataset) -> float:
    """Share of right answers."""
    labels = model.answer(tokens).labels
    return float(np.mean([a == b.label for a, b in zip(labels, data.samples, strict=True)]))


def same(before: np.ndarray, after: np.ndarray | None) -> bool:
    """Whether a node gives the same bits as before."""
    return after is not None and before.tobytes() == after.tobytes()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")))
