"""Texts from a table to an answer, through the command line."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shardgraph import cli, runtime
from shardgraph.model import SafeModel

PRAISE, BLAME = ("good", "great", "fine"), ("bad", "awful", "poor")


def run(*arguments: object) -> tuple[int, dict[str, Any], str]:
    """Exit code, the printed JSON object, and what went to standard error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as left,
    ):
        cli.main([*map(str, arguments), "--json"])
    assert isinstance(left.value.code, int)
    return left.value.code, json.loads(out.getvalue()), err.getvalue()


def write_reviews(path: Path, nouns: tuple[str, ...]) -> Path:
    rows = ["text,label,owner"]
    rows += [
        f"the {noun} was {first} {second},{label},about {noun} {first}"
        for label, words in (("praise", PRAISE), ("blame", BLAME))
        for first in words
        for second in words
        for noun in nouns
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "reviews.csv", ("film", "book"))


@pytest.fixture(scope="module")
def fitted(
    reviews: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    store = tmp_path_factory.mktemp("texts") / "store"
    backbone = ("--backbone", f"transformers:{tiny_bert}", "--layer", "1")
    code, outcome, err = run("fit", reviews, "--store", store, *backbone, "--shards", 4)
    assert code == 0, err
    assert outcome["samples"] == 36
    return store, err


def test_from_a_table_to_an_answer(fitted: tuple[Path, str], tmp_path: Path) -> None:
    store, err = fitted
    assert "texts/s" in err
    code, found, _ = run("evaluate", write_reviews(tmp_path / "t.csv", ("cook",)), "--store", store)
    assert code == 0
    assert found["samples"] == 18
    assert found["accuracy"] >= 0.8  # words that decide are known, the noun is new
    texts = ["the film was good good", "the book was awful poor"]
    file = tmp_path / "one.txt"
    file.write_text(texts[1])
    lines = tmp_path / "lines.txt"
    lines.write_text(f"{texts[1]}\n\n{texts[0]}\n")
    asked = ("predict", file, "--text", texts[0], "--lines", lines, "--store", store)
    code, found, _ = run(*asked)
    assert code == 0
    names = [item["input"] for item in found["predictions"]]
    assert names == [str(file), texts[0], texts[1], texts[0]]
    labels = [item["label"] for item in found["predictions"]]
    assert labels == ["blame", "praise", "blame", "praise"]


def test_forgotten_exactly(fitted: tuple[Path, str], tmp_path: Path) -> None:
    store = Path(shutil.copytree(fitted[0], tmp_path / "store"))
    code, outcome, _ = run("forget", "--store", store, "--owner", "about film good")
    assert (code, outcome["samples"]) == (0, 3)
    assert run("verify", "--store", store)[0] == 0
    with SafeModel.open(store) as model:
        assert model.status()["samples"] == 33


def test_data_of_another_kind_are_refused(
    fitted: tuple[Path, str], reviews: Path, tiny_vit: Path, tmp_path: Path
) -> None:
    store = fitted[0]
    photo = tmp_path / "photos" / "a" / "1.png"
    photo.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(photo)
    photos, new = photo.parents[1], ("--store", tmp_path / "s", "--backbone")
    for command, message in (
        (("fit", reviews, *new[:2]), "such as --backbone transformers:"),
        (("fit", photos, *new, fitted_on(store)), "such as --backbone efficientnet-lite0"),
        (("fit", reviews, *new, f"transformers:{tiny_vit}"), "takes images"),
        (("evaluate", photos, "--store", store), "Give it texts"),
        (("predict", photo, "--store", store), "not UTF-8"),
        (("predict", "--store", store), "nothing to predict"),
        (("fit", reviews, *new, "onnx:no.onnx"), "no file"),
    ):
        code, _, err = run(*command)
        assert code in (2, 4), err
        assert message in err
        assert err.count("\n") == 1
        assert not (tmp_path / "s").exists()


def fitted_on(store: Path) -> str:
    with SafeModel.open(store) as model:
        return str(model.store.config.backbone["name"])


def test_adding_data_of_another_kind_changes_nothing(
    fitted: tuple[Path, str], tmp_path: Path
) -> None:
    store = Path(shutil.copytree(fitted[0], tmp_path / "store"))
    photo = tmp_path / "photos" / "a" / "1.png"
    photo.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(photo)
    before = {str(path.relative_to(store)) for path in store.rglob("*")}
    code, _, err = run("add", photo.parents[1], "--store", store)
    assert code == 4
    assert "Give it texts" in err
    after = {str(path.relative_to(store)) for path in store.rglob("*")}
    assert {name for name in after - before if "sqlite" not in name} == set()


def test_the_version_of_the_library_counts_as_environment(
    fitted: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(fitted[0], tmp_path / "store"))
    with SafeModel.open(store) as model:
        recorded = dict(model.store.config.environment)
    assert recorded == runtime.environment(["transformers", "tokenizers"])
    monkeypatch.setattr(runtime, "_version", lambda name: f"{name} of tomorrow")
    code, _, err = run("forget", "--store", store, "--owner", "about film good")
    assert code == 8
    assert "tokenizers of tomorrow" in err
    code, _, err = run("rebase", "--store", store)
    assert code == 0, err
    assert run("forget", "--store", store, "--owner", "about film good")[0] == 0


def test_an_encoder_that_is_gone_or_changed(reviews: Path, tiny_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "bert"))
    store = tmp_path / "store"
    backbone = ("--backbone", f"transformers:{folder}?tokens=10")
    assert run("fit", reviews, "--store", store, *backbone, "--shards", 2)[0] == 0
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    code, _, err = run("predict", "--text", "good", "--store", store)
    assert code == 8
    assert "differs from the one" in err
    shutil.rmtree(folder)
    code, _, err = run("predict", "--text", "good", "--store", store)
    assert code == 2
    assert "no folder" in err


def write_photos(folder: Path) -> list[Path]:
    """Twelve noisy photographs, dark ones of class a and bright ones of class b."""
    random, photos = np.random.default_rng(4), []
    for number in range(12):
        photo = folder / "ab"[number % 2] / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 128, (20, 20, 3)) + 127 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(photo)
        photos.append(photo)
    return photos


def test_images_through_a_quantised_onnx_file(
    write_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    photo = write_photos(tmp_path / "photos")[-1]
    store = tmp_path / "store"
    file = write_onnx(tmp_path, quantised=True)
    code, _, err = run(
        "fit", tmp_path / "photos", "--store", store, "--backbone", f"onnx:{file}", "--shards", 2
    )
    assert code == 0, err
    with SafeModel.open(store) as model:
        assert model.store.config.settings["batch_size"] == 1
        assert model.store.config.environment["onnxruntime"]
    assert run("verify", "--store", store)[0] == 0
    code, found, _ = run("predict", photo, "--store", store)
    assert found["predictions"][0]["image"] == str(photo)


def test_averaged_tokens_are_fitted_added_and_forgotten_exactly(
    write_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    photos = write_photos(tmp_path / "photos")
    encoder = ("--layer", "hidden", "--backbone", f"onnx:{write_onnx(tmp_path)}?average=2")
    fit = ("fit", tmp_path / "photos", *encoder, "--shards", 2, "--graph", "tallied:2", "--store")
    late = photos[4].read_bytes()
    photos[4].unlink()
    store = tmp_path / "store"
    assert run(*fit, store)[0] == 0
    with SafeModel.open(store) as model:
        assert model.token_shape == (4, 6)
    photos[4].write_bytes(late)
    assert run("add", tmp_path / "photos", "--store", store)[0] == 0
    assert run("forget", "--store", store, "--sample", "b/7.png")[0] == 0
    assert run("verify", "--store", store)[0] == 0
    assert run("predict", photos[0], "--store", store)[1]["predictions"][0]["label"] == "a"
    photos[7].unlink()
    assert run(*fit, tmp_path / "fresh")[0] == 0
    digests = [
        run("status", "--store", place)[1]["digest"] for place in (store, tmp_path / "fresh")
    ]
    assert digests[0] == digests[1]
