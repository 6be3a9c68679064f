from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shardgraph.data import images
from shardgraph.errors import BadFileError
from shardgraph.identity import digest_bytes


def photograph(height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_comes_back_exactly(tmp_path: Path) -> None:
    pixels = photograph()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(images.decode(tmp_path / "a.png"), pixels)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = photograph()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(images.decode(tmp_path / "a.png"), np.rot90(pixels, -1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_common_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    (tmp_path / "a").write_bytes(encoded(Image.fromarray(photograph()).convert(mode), kind))
    found = images.decode(tmp_path / "a")
    assert found.shape == (20, 30, 3)
    assert found.dtype == np.uint8


def test_palette_with_alpha_is_read_without_a_warning(tmp_path: Path) -> None:
    image = Image.fromarray(photograph()).convert("P")
    (tmp_path / "a.png").write_bytes(encoded(image, "PNG", transparency=bytes(range(256))))
    assert images.decode(tmp_path / "a.png").shape == (20, 30, 3)


def test_16_bit_grey_is_scaled(tmp_path: Path) -> None:
    grey = np.array([[0, 255, 256, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert images.decode(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 1, 255]


def test_float_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BadFileError, match="no fixed range"):
        images.decode(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_file_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "cut.img"
    data = encoded(Image.fromarray(photograph(100, 100)), kind)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadFileError, match=r"cut\.img") as caught:
        images.decode(path)
    assert "\n" not in str(caught.value)
    assert caught.value.advice


@pytest.mark.parametrize("content", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    for look in (images.decode, images.inspect):
        with pytest.raises(BadFileError, match="not an image"):
            look(tmp_path / "a.jpg")


def test_huge_image_is_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (4000, 4000)).save(tmp_path / "a.png")
    for look in (images.decode, images.inspect):
        with pytest.raises(BadFileError, match="4000 x 4000 pixels"):
            look(tmp_path / "a.png", max_pixels=15_999_999)
    images.inspect(tmp_path / "a.png", max_pixels=16_000_000)


def test_bomb_is_refused_without_a_warning(tmp_path: Path) -> None:
    image = Image.new("1", (12_000, 10_000))
    image.save(tmp_path / "a.png")
    with pytest.raises(BadFileError, match="pixels"):
        images.decode(tmp_path / "a.png")
    images.inspect(tmp_path / "a.png", max_pixels=120_000_000)


def test_missing_directory_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in (("none.jpg", "No such file"), ("pipe.jpg", "regular"), (".", "regular")):
        for look in (images.decode, images.inspect, images.fingerprint):
            with pytest.raises(BadFileError, match=reason):
                look(tmp_path / name)


def test_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "a.jpg").write_bytes(data)
    assert images.fingerprint(tmp_path / "a.jpg") == digest_bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_damaged_bytes_give_an_image_or_a_bad_file(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(3)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("JPEG", "PNG", "TIFF", "WEBP") else {}
    original = encoded(Image.fromarray(photograph()), kind, **options)
    for _ in range(150):
        damaged = bytearray(original)
        for place in random.integers(0, min(len(damaged), 400), 3):
            damaged[place] = random.integers(0, 256)
        (tmp_path / "a").write_bytes(damaged)
        with contextlib.suppress(BadFileError):
            assert images.decode(tmp_path / "a", max_pixels=10_000).ndim == 3


def test_threads_leave_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    before = list(warnings.filters)
    together = threading.Barrier(4)

    def decode_often(_: int) -> None:
        together.wait()
        for _ in range(50):
            images.decode(tmp_path / "a.png")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decode_often, range(4)))
    assert list(warnings.filters) == before


def test_a_warning_of_the_decoder_is_a_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(photograph()).save(tmp_path / "a.png")

    def warn(image: Image.Image) -> Image.Image:
        warnings.warn_explicit("odd bytes", UserWarning, "x.py", 1, module="PIL.PngImagePlugin")
        return image

    monkeypatch.setattr(images.ImageOps, "exif_transpose", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(BadFileError, match="odd bytes"):
            images.decode(tmp_path / "a.png")
