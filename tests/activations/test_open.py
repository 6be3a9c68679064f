from __future__ import annotations

import pytest

from shardgraph.activations.open import open_backbone
from shardgraph.errors import RecipeError


def test_by_name() -> None:
    assert open_backbone("efficientnet-lite0", "blocks.3").layer.endswith("blocks.3")
    assert open_backbone("activations", shape=(3, 4)).tokens == 3
    assert open_backbone("activations", "as-given", shape=(3, 4)).width == 4


def test_refused() -> None:
    with pytest.raises(RecipeError, match="no backbone 'resnet'"):
        open_backbone("resnet")
    with pytest.raises(RecipeError, match="takes arrays"):
        open_backbone("activations")
    with pytest.raises(RecipeError, match="no layers"):
        open_backbone("activations", "blocks.3", shape=(3, 4))
