"""The process that computes: threads, allocator, and the fingerprint of what decides bits."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TRAINING_THREADS = 1
"""Threads inside one operator while nodes are fitted or activations encoded.

fp32 training bits change with this number, so it is fixed; parallelism comes from several workers.
"""

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

    The count is global to the process while the block runs.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def worker_count() -> int:
    """How many workers fit nodes side by side: the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text(errors="replace")
        fields = [
            re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
            for name in ("vendor_id", "cpu family", "model")
        ]
        if all(fields):
            return " ".join(field.group(1).strip() for field in fields if field)
    return platform.processor() or platform.machine()


def environment() -> dict[str, str]:
    """What may change the bits of a fit: libraries, instruction set, threads, dtype, device."""
    import numpy
    import torch

    return {
        "cpu": _cpu_model(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device": "cpu",
        "dtype": "float32",
        "machine": platform.machine(),
        "numpy": numpy.__version__,
        "system": platform.system(),
        "threads": str(TRAINING_THREADS),
        "torch": torch.__version__,
    }
