"""The self-test holds here, and notices arithmetic that is not exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from shardgraph.nodes import exactness as module
from shardgraph.nodes.exactness import check_exactness


def holds(**shape: int) -> dict[str, bool]:
    return {finding.name: finding.holds for finding in check_exactness(**shape)}


@pytest.mark.parametrize(("tokens", "width"), [(1, 64), (49, 320)])
def test_this_machine_is_exact(tokens: int, width: int) -> None:
    found = holds(tokens=tokens, width=width, heads=4, value_width=16)
    assert found == {"products": True, "features": True, "solve": True}


def test_products_that_lose_bits_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.bmm

    def lossy(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if left.dtype == torch.float64:
            return plain(left, right)
        return plain(left.to(torch.bfloat16), right.to(torch.bfloat16)).to(left.dtype)

    monkeypatch.setattr(torch, "bmm", lossy)
    found = holds(tokens=9, width=64, heads=2, value_width=8)
    assert not found["products"]
    assert not found["features"]


def test_a_solve_that_depends_on_its_company_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = module.solve_all

    def careless(tallies: Any, rule: Any, *, workers: int) -> Any:
        heads = plain(tallies, rule, workers=workers)
        if len(heads) == 1:
            return heads
        return [replace(head, weight=np.nextafter(head.weight, np.float32(9))) for head in heads]

    monkeypatch.setattr(module, "solve_all", careless)
    assert holds(tokens=9, width=32, heads=2, value_width=8) == {
        "products": True,
        "features": True,
        "solve": False,
    }
