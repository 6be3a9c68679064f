"""The process that computes: threads, allocator, and the fingerprint of what decides bits."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shardgraph.errors import InterruptedWorkError

TRAINING_THREADS = 1
"""Threads inside one operator while nodes are fitted or activations encoded.

fp32 training bits change with this number, so it is fixed; parallelism comes from several workers.
"""

VARIABLES = (
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
)
"""Variables of the process that choose kernels, and with them bits. Those that only set numbers of
threads are not among them: `pinned_threads` overrules them."""

_INSTRUCTIONS = re.compile(r"amx|avx|f16c|fma|sse4|asimd|bf16|neon|sve")
_CPUINFO = Path("/proc/cpuinfo")

_THREADS = re.compile(r"get(?:_max|_num)_threads\(\) : (\d+)")

_turns = threading.Condition()
_pinned: list[tuple[int, int]] = []  # thread and count of every block of `pinned_threads`
_unpinned: list[int] = []  # the count outside of them

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # <malloc.h>


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to reuse large freed blocks instead of returning them to the kernel.

    Freshly mapped pages must be zeroed by the kernel; an encoder that allocates and frees large
    buffers per batch can spend half its time there. Returns False where glibc is not in use.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    results = [
        mallopt(_M_MMAP_THRESHOLD, 1 << 30),
        mallopt(_M_TRIM_THRESHOLD, 1 << 30),
        mallopt(_M_TOP_PAD, 64 << 20),
    ]
    return all(result == 1 for result in results)


@contextmanager
def pinned_threads(count: int = TRAINING_THREADS) -> Iterator[None]:
    """Run the block with ``count`` threads inside each torch operator, then restore.

    The count is global to the process. Blocks of several threads share it: what was there before
    comes back when the last of them ends, and a thread that wants another count waits for the
    others. A thread that leaves before the last keeps the count until it pins again.

    Not guaranteed: that nobody else sets it meanwhile; see `require_pinned`.
    """
    import torch

    mine = (threading.get_ident(), count)
    with _turns:
        _turns.wait_for(lambda: all(mine[0] == who or count == it for who, it in _pinned))
        before = torch.get_num_threads()
        if not _pinned:
            _unpinned[:] = [before]
        _pinned.append(mine)
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _turns:
            _pinned.remove(mine)
            if not _pinned:
                torch.set_num_threads(_unpinned[0])
            elif all(who == mine[0] for who, _ in _pinned):
                torch.set_num_threads(before)
            _turns.notify_all()


def require_pinned() -> None:
    """Check, in a worker that has just computed, that nobody has changed the number of threads.

    Raises:
        InterruptedWorkError: somebody has; what was computed may have other bits.
    """
    import torch

    found = set(_THREADS.findall(torch.__config__.parallel_info()))
    if found != {str(TRAINING_THREADS)}:
        raise InterruptedWorkError(
            "The number of threads inside torch was changed while a store was at work.",
            advice="Leave torch.set_num_threads alone meanwhile, and run the command again.",
        )


def worker_count() -> int:
    """How many workers fit nodes side by side: the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def environment(libraries: Iterable[str] = ()) -> dict[str, str]:
    """What may change the bits of a fit, by name.

    Library versions and builds, processor and instruction set, the variables that choose kernels,
    threads, dtype, device, and under ``arithmetic`` a digest of a small computation with every
    kind of kernel that fits and encoders use, which differs where anything else that was not
    thought of decides: a precision that the program has lowered, autocast, a library switched off.

    ``libraries`` are further installed packages whose versions count, such as that which runs the
    encoder; "none" is the version of one that is not installed.

    Not guaranteed: that another environment gives other bits, nor that every difference of a
    kernel shows in the computation.
    """
    import numpy
    import torch

    return {
        "arithmetic": _arithmetic(_switches()),
        "build": _digest(torch.__config__.show().encode()),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cpu": _cpu_model(),
        "device": "cpu",
        "dtype": "float32",
        "instructions": _instructions(),
        "machine": platform.machine(),
        "numpy": numpy.__version__,
        "system": platform.system(),
        "threads": str(TRAINING_THREADS),
        "torch": torch.__version__,
        "variables": " ".join(f"{n}={os.environ[n]}" for n in VARIABLES if n in os.environ),
        **{name: _version(name) for name in libraries},
    }


def environment_like(recorded: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process, with the further libraries that ``recorded`` names."""
    here = environment()
    return here | {name: _version(name) for name in recorded.keys() - here.keys()}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def describe_changes(changes: Mapping[str, tuple[str | None, str | None]]) -> list[str]:
    """Each change (there, here) of an environment in one line; of lists, what only one has."""
    lines = []
    for name, (there, here) in sorted(changes.items()):
        old, new = (there or "none").split(), (here or "none").split()
        only = [" ".join(w for w in a if w not in b) or "-" for a, b in ((old, new), (new, old))]
        lines.append(f"{name} {only[0]} -> {only[1]}")
    return lines


@functools.cache
def _cpu_model() -> str:
    fields = [_cpuinfo(name) for name in ("vendor_id", "cpu family", "model")]
    return " ".join(fields) if all(fields) else platform.processor() or platform.machine()


@functools.cache
def _instructions() -> str:
    """Extensions of the instruction set that kernels choose by, as far as the system names them."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return " ".join(sorted(flag for flag in flags.split() if _INSTRUCTIONS.match(flag)))


def _cpuinfo(name: str) -> str:
    """The first value under a name in what Linux says of the processor, empty elsewhere."""
    text = _CPUINFO.read_text(errors="replace") if _CPUINFO.exists() else ""
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _switches() -> tuple[object, ...]:
    """What a program can set in its process that may change `_arithmetic`."""
    import torch

    flags = torch.backends.mkldnn
    parts = (flags, getattr(flags, "matmul", None), getattr(flags, "conv", None))
    return (
        flags.enabled,
        *(getattr(part, "fp32_precision", None) for part in parts),
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
    )


@functools.cache
def _arithmetic(_switched: tuple[object, ...]) -> str:
    """A digest of what products, convolutions, factorisations and curves give in this process."""
    import numpy
    import torch
    from torch.nn import functional

    draw = numpy.random.Generator(numpy.random.Philox(0)).standard_normal
    images = torch.from_numpy(draw((2, 16, 14, 14), dtype=numpy.float32))
    kernels = torch.from_numpy(draw((16, 1, 3, 3), dtype=numpy.float32))
    mixing = torch.from_numpy(draw((32, 16, 1, 1), dtype=numpy.float32))
    tokens, weights = images.reshape(4, 98, 16), mixing.reshape(4, 16, 8)
    with pinned_threads(), torch.no_grad():
        scores = torch.bmm(tokens, weights)
        wide = images.reshape(64, 98) @ images.reshape(98, 64)
        square = (tokens[0].T @ tokens[0]).to(torch.float64)
        factor = torch.linalg.cholesky(square)
        found = [
            scores,
            wide,
            torch.softmax(scores, dim=1),
            torch.log_softmax(wide, dim=1),
            functional.layer_norm(wide, (64,)),
            functional.conv2d(images, kernels, groups=16),
            functional.conv2d(images, mixing),
            functional.silu(images),
            torch.linalg.vector_norm(tokens, dim=(1, 2)),
            factor,
            torch.linalg.solve_triangular(factor, square, upper=False),
            torch.linalg.eigh(square).eigenvectors,
        ]
    return _digest(b"".join(part.float().contiguous().numpy().tobytes() for part in found))


def _digest(data: bytes) -> str:
    """Enough of a SHA-256 to tell environments apart."""
    return hashlib.sha256(data).hexdigest()[:16]
