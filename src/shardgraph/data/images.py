"""Image files to arrays: one format list, one pixel limit, one kind of error."""

from __future__ import annotations

import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from shardgraph.errors import BadFileError
from shardgraph.identity import digest_chunks

MAX_PIXELS = 100_000_000
"""Largest image that is decoded, in pixels (300 MB as RGB); larger ones are bad files."""

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Lower-case endings of file names that are taken for images."""

# Only these are tried, whatever the suffix: other decoders of Pillow start outside programs.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")

# What Pillow raises for damaged input; its decoders do not promise a single type.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    ArithmeticError,
    LookupError,
    struct.error,
    zlib.error,
    Warning,
    Image.DecompressionBombError,
)
_CHUNK = 1 << 20


class _StrictWarnings:
    """Turns warnings of Pillow into exceptions while at least one thread is inside.

    Warning filters belong to the process, so threads share one change of them: the first to enter
    makes it and the last to leave takes it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.filterwarnings("error", module=r"PIL\b")
                # Size is checked against our own limit.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._before.__exit__(None, None, None)


_strict_warnings = _StrictWarnings()


def decode(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read one image file.

    Returns:
        uint8, H x W x 3, RGB, upright (EXIF orientation applied). Alpha is dropped, 16-bit grey is
        scaled to 8 bits, and only the first frame of an animation is read.

    Raises:
        BadFileError: the file is missing, not a regular file, not one of the supported formats,
            damaged, cut short, or larger than ``max_pixels``; the message names it. A warning of
            the decoder counts as damage. ``max_pixels`` cannot lift Pillow's own limit, which is
            twice ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    with _opened(path, max_pixels) as image:
        upright = ImageOps.exif_transpose(image)
        return np.asarray(_as_rgb(upright))


def inspect(path: Path, *, max_pixels: int = MAX_PIXELS) -> None:
    """Check the header of one image file without decoding it.

    Raises:
        BadFileError: as `decode`, for what the header shows.
    """
    with _opened(path, max_pixels):
        pass


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in pieces.

    Raises:
        BadFileError: the file cannot be read.
    """
    try:
        _require_regular(path)
        with path.open("rb") as file:
            return digest_chunks(iter(lambda: file.read(_CHUNK), b""))
    except OSError as error:
        raise _bad(path, error.strerror or type(error).__name__) from error


def has_image_suffix(name: str) -> bool:
    """Whether a file name ends like an image's."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    try:
        _require_regular(path)
        with _strict_warnings, Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                reason = f"{width} x {height} pixels are more than the limit of {max_pixels:,}"
                raise _bad(path, reason)
            yield image
    except BadFileError:
        raise
    except UnidentifiedImageError as error:
        raise _bad(path, "not an image in a supported format") from error
    except _DECODE_ERRORS as error:
        raise _bad(path, _reason(error)) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range")
    if image.mode == "P":  # a palette may carry alpha, which only RGBA can take over
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _require_regular(path: Path) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _bad(path, "not a regular file")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _bad(path: Path, reason: str) -> BadFileError:
    return BadFileError(
        f"Cannot read the image {path}: {reason}.",
        advice="Repair or remove the file, or leave bad files out with --on-bad-file skip.",
    )
