"""Requests: distinct names in order, keys of their own, and files that people write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardgraph.errors import UsageError
from shardgraph.forgetting.request import ForgetRequest, read_request_file


def test_names_are_distinct_and_sorted_and_keys_differ() -> None:
    request = ForgetRequest.of(samples=["b", "a", "b"], owners="poo", sources=("t", "s"))
    found = (request.samples, request.owners, request.sources)
    assert found == (("a", "b"), ("o", "p"), ("s", "t"))
    assert request.key != ForgetRequest.of(samples=["b", "a"]).key


@pytest.mark.parametrize(
    ("given", "what"), [({}, "names nothing"), ({"samples": ["a"], "key": ""}, "key is empty")]
)
def test_a_request_names_something_and_has_a_key(given: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what) as refused:
        ForgetRequest.of(**given)
    assert refused.value.advice


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf")])
def test_a_deadline_lies_ahead(days: float) -> None:
    with pytest.raises(UsageError, match="deadline") as refused:
        ForgetRequest.of(samples=["a"], days=days)
    assert refused.value.advice


def test_text_is_a_sample_a_line(tmp_path: Path) -> None:
    path = tmp_path / "who.txt"
    path.write_text("\ufeffcat/1.jpg\n\n  dog/2.jpg  \n", encoding="utf-8")
    assert read_request_file(path) == {"samples": ["cat/1.jpg", "dog/2.jpg"]}


def test_a_table_may_name_samples_owners_and_sources(tmp_path: Path) -> None:
    path = tmp_path / "who.CSV"
    path.write_text("id,owner,source,note\na,,,x\n,bob,,y\n,,mail,z\n,,,z\n")
    expected = {"samples": ["a"], "owners": ["bob"], "sources": ["mail"]}
    assert read_request_file(path) == expected
    path.write_text("sample\nb\n")
    assert read_request_file(path) == {"samples": ["b"]}


@pytest.mark.parametrize("content", [b"name\nbob\n", b"", b"\xff\xfe\x00"])
def test_what_cannot_be_understood_is_refused_with_advice(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "who.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_request_file(path)
    assert refused.value.advice


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        read_request_file(tmp_path / "none.txt")
