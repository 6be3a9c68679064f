from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from shardgraph.data.digits import DigitsDataset
from shardgraph.errors import UsageError


def test_images_labels_and_owners() -> None:
    data = DigitsDataset()
    assert len(data.samples) == 1797
    assert {s.label for s in data.samples} == set("0123456789")
    image = data.read(0)
    assert (image.shape, image.dtype, int(image.max())) == ((8, 8, 3), np.uint8, 239)
    owners = Counter(s.owner for s in data.samples)
    assert 4.5 < 1797 / len(owners) < 5.5


def test_owners_are_the_same_everywhere() -> None:
    assert [s.owner for s in DigitsDataset().samples[:3]] == [
        "writer-148",
        "writer-075",
        "writer-062",
    ]


def test_parts_share_no_owner_and_make_the_whole() -> None:
    whole, train, test = (DigitsDataset(part) for part in ("all", "train", "test"))
    assert {s.id for s in whole.samples} == {s.id for s in (*train.samples, *test.samples)}
    assert not {s.owner for s in train.samples} & {s.owner for s in test.samples}
    assert 0.7 < len(train.samples) / len(whole.samples) < 0.9
    position = {s.id: i for i, s in enumerate(whole.samples)}
    last = len(test.samples) - 1
    assert whole.fingerprint(position[test.samples[last].id]) == test.fingerprint(last)
    test.inspect(last)


def test_unknown_part() -> None:
    with pytest.raises(UsageError, match="no part"):
        DigitsDataset("half")  # type: ignore[arg-type]
