from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from shardgraph.activations.image_input import ImageInput
from shardgraph.activations.torch_module import LayerTap, TorchModule, as_tokens, weights_digest
from shardgraph.errors import RecipeError

Make = Callable[..., TorchModule]


class Explosive(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError


def test_four_dimensions_become_positions_by_channels(make_tiny: Make) -> None:
    backbone = make_tiny("1")
    assert (backbone.tokens, backbone.width) == (16, 8)


def test_two_dimensions_become_one_token(make_tiny: Make) -> None:
    assert (make_tiny("3").tokens, make_tiny("3").width) == (1, 5)


def test_tokens_of_a_map_are_its_positions_row_by_row() -> None:
    output = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert torch.equal(as_tokens(output, "x")[0], output[0].reshape(2, 12).T)
    assert as_tokens((torch.zeros(1, 5, 6), None), "x").shape == (1, 5, 6)


@pytest.mark.parametrize("output", [torch.zeros(3), None, (), torch.zeros(1, 1, 1, 1, 1)])
def test_other_outputs_are_refused(output: object) -> None:
    with pytest.raises(RecipeError, match="'x' cannot be read as tokens"):
        as_tokens(output, "x")


def test_nothing_behind_the_layer_runs() -> None:
    tap = LayerTap(nn.Sequential(nn.Linear(2, 3), Explosive()), "0")
    assert tap(torch.zeros(4, 2)).shape == (4, 1, 3)


def test_the_module_stays_usable() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    tap = LayerTap(module, "0")
    tap(torch.zeros(1, 2))
    assert module(torch.zeros(1, 2)).shape == (1, 4)


def test_unused_layer_and_errors_inside() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    with pytest.raises(RecipeError, match="does not use the layer 'unused'"):
        LayerTap(Forgetful(), "unused")(torch.zeros(1, 2))
    with pytest.raises(ZeroDivisionError):
        LayerTap(nn.Sequential(Explosive(), nn.ReLU()), "1")(torch.zeros(1, 2))


def test_unknown_layer_lists_valid_ones(make_tiny: Make) -> None:
    for layer in ("nowhere", ""):
        with pytest.raises(RecipeError, match="0, 1, 2, 3"):
            make_tiny(layer)


def test_threads_get_their_own_outputs(tiny: TorchModule) -> None:
    batches = [np.stack([tiny.prepare(tiny.example(seed))] * 2) for seed in range(8)]
    alone = [tiny.encode(batch).tobytes() for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert [found.tobytes() for found in pool.map(tiny.encode, batches)] == alone


def test_digest_covers_all_that_decides_the_numbers(make_tiny: Make) -> None:
    digests = {make_tiny(**change).digest for change in ({}, {"layer": "0"}, {"mean": 0.0})}
    images = ImageInput(16, mean=(127.0,) * 3, scale=(128.0,) * 3)
    from_other_weights = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU())
    digests.add(TorchModule(from_other_weights, "1", name="tiny", image_input=images).digest)
    digests.add(TorchModule(from_other_weights, "1", name="other", image_input=images).digest)
    assert len(digests) == 5
    assert make_tiny().digest == make_tiny().digest


def test_weights_digest_sees_every_kind_of_state() -> None:
    module = nn.BatchNorm1d(2)
    before = weights_digest(module)
    module.num_batches_tracked += 1
    assert weights_digest(module) != before
    module.num_batches_tracked -= 1
    assert weights_digest(module) == before
