"""Shapes, padding and initialisation of stacks of adapters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shardgraph.nodes import adapter as adapters
from shardgraph.nodes.projection import TOKEN_UNIT, integer_tokens
from shardgraph.nodes.recipe import KINDS, LANE, Recipe


def _recipe(kind: str) -> Recipe:
    return Recipe(kind=kind, heads=2, queries=3 if kind == "inca" else 1, value_width=16)


def _tokens(width: int, rows: int = 5) -> torch.Tensor:
    generator = np.random.default_rng(width)
    return torch.from_numpy(generator.standard_normal((rows, 7, width)).astype(np.float32))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 320])
def test_padded_is_the_next_multiple(size: int) -> None:
    assert adapters.padded(size) % LANE == 0
    assert 0 <= adapters.padded(size) - size < LANE


def test_feature_shapes() -> None:
    inca = adapters.stack("inca", [adapters.initialise(_recipe("inca"), i, 16, 5) for i in (1, 2)])
    assert adapters.features(inca.projection, _tokens(16)).shape == (2, 5, 3 * 2 * 16)
    kind = "open-inca"
    open_inca = adapters.stack(kind, [adapters.initialise(_recipe(kind), i, 16, 5) for i in (1, 2)])
    found = adapters.class_features(open_inca.projection, _tokens(16))
    assert found.shape == (2, 5, 16, 2 * 16)


def test_features_are_normalised() -> None:
    arrays = adapters.initialise(_recipe("inca"), 1, 16, 5)
    found = adapters.features(adapters.stack("inca", [arrays]).projection, _tokens(16))[0]
    torch.testing.assert_close(found.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var(1, correction=0), torch.ones(5), atol=1e-2, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_shared_and_own_tokens_agree(kind: str) -> None:
    nodes = [adapters.initialise(_recipe(kind), seed, 16, 16) for seed in (1, 2, 3)]
    adapter = adapters.stack(kind, nodes)
    adapter.head.weight.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    tokens = _tokens(16)
    shared = adapters.logits(adapter, tokens)
    own = adapters.logits(adapter, tokens.expand(3, -1, -1, -1).contiguous())
    torch.testing.assert_close(shared, own, atol=1e-5, rtol=1e-5)
    assert shared.shape == (3, 5, 16)


def test_adapters_see_the_tokens_that_tallies_see() -> None:
    batch = np.random.default_rng(0).standard_normal((6, 9, 256)).astype(np.float32)
    batch[1:, :, 5] *= 200
    batch[2] *= 1e-3
    batch[3] = 0
    scaled = adapters.normalise_tokens(torch.from_numpy(batch), 256)
    error = (scaled - integer_tokens(batch) / TOKEN_UNIT).abs()
    assert error.max() < 1 / TOKEN_UNIT
    others = np.arange(256) != 5
    assert (scaled[1:3][:, :, others].square().mean(dim=(1, 2)).sqrt() > 0.6).all()
    assert scaled.abs().max() == adapters.MOST


def test_tokens_may_be_scaled_in_place() -> None:
    tokens = _tokens(16)
    expected = adapters.normalise_tokens(tokens, 16)
    assert adapters.normalise_tokens(tokens, 16, out=tokens) is tokens
    assert torch.equal(tokens, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_answer_and_comes_off_again(kind: str) -> None:
    arrays = adapters.initialise(_recipe(kind), 1, 13, 5)
    generator = np.random.default_rng(0)
    arrays["weight"] = generator.standard_normal(arrays["weight"].shape).astype(np.float32)
    adapter = adapters.stack(kind, [arrays])
    tokens = torch.nn.functional.pad(_tokens(13), (0, 3))
    probabilities = adapters.logits(adapter, adapters.normalise_tokens(tokens, 13)).softmax(-1)
    assert (probabilities[..., 5:] == 0).all()
    plain = adapters.Adapter.of(kind, {n: torch.from_numpy(a)[None] for n, a in arrays.items()})
    unpadded = adapters.logits(plain, adapters.normalise_tokens(_tokens(13), 13)).softmax(-1)
    torch.testing.assert_close(probabilities[..., :5], unpadded, atol=1e-6, rtol=0)
    again = adapters.unstack(adapter, 0, 13, 5)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_gets_no_gradient(kind: str) -> None:
    adapter = adapters.stack(kind, [adapters.initialise(_recipe(kind), 1, 13, 5)])
    named = adapter.tensors()
    adapter.head.weight[..., :5, :5] = 0.3
    for tensor in named.values():
        tensor.requires_grad_()
    tokens = adapters.normalise_tokens(torch.nn.functional.pad(_tokens(13), (0, 3)), 13)
    target = torch.zeros(1, 5, 16)
    target[..., 2] = 1
    loss = -(target * torch.log_softmax(adapters.logits(adapter, tokens), -1)).sum()
    gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    assert (gradients["attention"][..., 13:] == 0).all()
    assert (gradients["values"][:, :, 13:] == 0).all()
    assert (gradients["bias"][..., 5:] == 0).all()
    padded_columns = gradients["weight"] if kind == "open-inca" else gradients["weight"].mT
    assert (padded_columns[:, 5:] == 0).all()
    assert (padded_columns[:, :5] != 0).any()


def test_initialisation_is_a_function_of_its_arguments() -> None:
    recipe = _recipe("inca")
    torch.manual_seed(1)
    first = adapters.initialise(recipe, 4, 13, 5)
    torch.manual_seed(2)
    np.random.default_rng().random()
    second = adapters.initialise(recipe, 4, 13, 5)
    other = adapters.initialise(recipe, 5, 13, 5)
    assert all((first[name] == second[name]).all() for name in first)
    assert (first["attention"] != other["attention"]).all()
    assert all(array.dtype == np.float32 for array in first.values())


def test_one_token_is_pooled_as_it_is() -> None:
    adapter = adapters.stack("inca", [adapters.initialise(_recipe("inca"), 1, 16, 5)])
    tokens = _tokens(16)[:, :1]
    heads = tokens[:, 0] @ adapter.projection.values[0]  # [H, B, V]
    expected = heads.permute(1, 0, 2)[:, None].expand(-1, 3, -1, -1).flatten(1)
    normalised = torch.nn.functional.layer_norm(expected, expected.shape[1:])
    found = adapters.features(adapter.projection, tokens)[0]
    torch.testing.assert_close(found, normalised, atol=1e-5, rtol=1e-5)
