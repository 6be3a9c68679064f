"""The folded adapter is the plain multi-head module: values, gradients, trained result.

Tolerances: forward 1e-5 and gradients 1e-4 of the largest entry, in float32 (the fold changes the
order of sums, nothing else); in float64 both agree to 1e-10.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from shardgraph.nodes import adapter as adapters
from shardgraph.nodes.adapter import Adapter
from shardgraph.nodes.oracle import PlainAdapter
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.tokens import TokenRows
from shardgraph.nodes.train import Job, train

WIDTH, CLASSES, TOKENS, BATCH = 32, 16, 9, 6
FORMS = [("inca", 4, 1), ("inca", 2, 3), ("open-inca", 2, CLASSES)]


def _plain(kind: str, heads: int, queries: int, dtype: torch.dtype) -> PlainAdapter:
    torch.manual_seed(heads)
    plain = PlainAdapter(
        WIDTH, CLASSES, heads=heads, queries=queries, value_width=16, key_width=8, kind=kind
    )
    with torch.no_grad():
        plain.norm.weight.uniform_(0.5, 1.5)
        plain.norm.bias.uniform_(-1, 1)
    return plain.to(dtype)


def _close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = float(expected.detach().abs().max()) or 1.0
    assert float((found - expected).detach().abs().max()) <= tolerance * scale


@pytest.mark.parametrize(("kind", "heads", "queries"), FORMS)
@pytest.mark.parametrize(
    ("dtype", "forward", "backward"),
    [(torch.float32, 1e-5, 1e-4), (torch.float64, 1e-10, 1e-10)],
)
@pytest.mark.parametrize("shared", [True, False])
def test_values_and_gradients_agree(
    kind: str,
    heads: int,
    queries: int,
    dtype: torch.dtype,
    forward: float,
    backward: float,
    shared: bool,
) -> None:
    plain = _plain(kind, heads, queries, dtype)
    tokens = torch.randn(BATCH, TOKENS, WIDTH, dtype=dtype)
    direction = torch.randn(BATCH, CLASSES, dtype=dtype)
    parameters = list(plain.parameters())

    expected = plain(tokens)
    found = adapters.logits(plain.folded(), tokens if shared else tokens[None])[0]
    _close(found, expected, forward)

    through_plain = torch.autograd.grad((expected * direction).sum(), parameters)
    through_fold = torch.autograd.grad((found * direction).sum(), parameters)
    for theirs, ours in zip(through_plain, through_fold, strict=True):
        _close(ours, theirs, backward)


@pytest.mark.parametrize(("kind", "heads", "queries"), FORMS)
def test_unfolding_and_folding_give_the_same_adapter(kind: str, heads: int, queries: int) -> None:
    folded = _plain(kind, heads, queries, torch.float64).folded()
    plain = PlainAdapter.unfolded(folded).double()
    again = PlainAdapter.unfolded(folded).double().folded()
    tokens = torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.float64)
    for name, tensor in folded.tensors().items():
        _close(again.tensors()[name], tensor, 1e-6)
    _close(plain(tokens), adapters.logits(folded, tokens)[0], 1e-6)


def test_only_one_node_can_be_unfolded() -> None:
    arrays = adapters.initialise(Recipe(), 0, WIDTH, CLASSES)
    with pytest.raises(ValueError, match="Only one node"):
        PlainAdapter.unfolded(adapters.stack("inca", [arrays, arrays]))


class _PlainAdamW:
    """AdamW as its paper writes it (arXiv 1711.05101, algorithm 2), one tensor at a time."""

    def __init__(self, parameters: list[torch.nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.steps = parameters, decay, 0
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...], rate: float) -> None:
        self.steps += 1
        triples = zip(self.parameters, gradients, self.first, self.second, strict=True)
        for parameter, gradient, first, second in triples:
            first.copy_(0.9 * first + 0.1 * gradient)
            second.copy_(0.999 * second + 0.001 * gradient**2)
            unbiased = first / (1 - 0.9**self.steps)
            spread = (second / (1 - 0.999**self.steps)).sqrt()
            decay = self.decay if parameter.dim() == 2 else 0.0
            parameter.sub_(rate * (unbiased / (spread + 1e-8) + decay * parameter))


def _train_plain(
    start: dict[str, np.ndarray], recipe: Recipe, seed: int, data: np.ndarray, labels: np.ndarray
) -> Adapter:
    """The same training, written out for one plain module."""
    plain = PlainAdapter.unfolded(adapters.stack(recipe.kind, [start]))
    frozen = ("query_tokens", "to_query.weight")  # the fold has no such parameters
    learnt = [p for name, p in plain.named_parameters() if name not in frozen]
    optimiser = _PlainAdamW(learnt, recipe.weight_decay)
    steps = -(-len(labels) // recipe.batch_size)
    total, done = recipe.epochs * steps, 0
    warm = int(np.ceil(recipe.warmup * total))
    for epoch in range(recipe.epochs):
        order = np.random.Generator(np.random.Philox([seed, epoch + 1])).permutation(len(labels))
        for chosen in np.array_split(order, steps):
            fall = 0.5 * (1 + np.cos(np.pi * (done - warm) / (total - warm)))
            rate = recipe.learning_rate * ((done + 1) / warm if done < warm else fall)
            tokens = adapters.normalise_tokens(torch.from_numpy(data[chosen]), WIDTH)
            loss = torch.nn.functional.cross_entropy(
                plain(tokens),
                torch.from_numpy(labels[chosen]),
                label_smoothing=recipe.label_smoothing,
            )
            optimiser.step(torch.autograd.grad(loss, learnt), rate)
            done += 1
    return plain.folded()


def test_trained_results_agree() -> None:
    """30 epochs: probabilities within 1e-3 of those of the plain module trained the plain way."""
    generator = np.random.default_rng(3)
    labels = np.arange(80) % CLASSES
    centres = generator.standard_normal((CLASSES, 1, WIDTH))
    data = (centres[labels] + generator.standard_normal((80, TOKENS, WIDTH))).astype(np.float32)
    recipe = Recipe(heads=2, value_width=16, batch_size=32, warmup=0.1)
    job = Job(0, 11, TokenRows.of([(data, np.arange(80))]), tuple(f"{c:02d}" for c in labels))
    ours = train([job], recipe)[0]
    start = adapters.initialise(recipe, 11, WIDTH, CLASSES)
    theirs = _train_plain(start, recipe, 11, data, labels)
    tokens = adapters.normalise_tokens(torch.from_numpy(data), WIDTH)
    with torch.no_grad():
        found = adapters.logits(adapters.stack("inca", [ours.arrays]), tokens).softmax(-1)[0]
        expected = adapters.logits(theirs, tokens).softmax(-1)[0]
    assert float((found - expected).abs().max()) < 1e-3
    assert (found.argmax(1).numpy() == labels).mean() > 0.9
