"""The memory of a process that lives for weeks: taken at the start, and given back after each drain."""

from __future__ import annotations

import ctypes
import gc
import logging

import pyarrow as pa

from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS
from vecfill.encode.encoder import Encoder

log = logging.getLogger(__name__)

WARM_TEXTS = tuple(
    f"{number} Senior nurse, night shift, reports to the head of intensive care. " * 2 for number in range(32)
)
"""Texts of one block for every core: the libraries' buffers have their size after it."""


def keep_compact() -> None:
    """Has Arrow free memory where ``give_back`` finds it; for a process that is ours.

    Each fault makes threads anew, and Arrow's own allocator keeps what the old ones freed: 14 faults left 38 MB behind,
    and this way 8. Fewer arenas of glibc would leave none, but keep 60 MB for a minute after each big drain.
    """
    pa.set_memory_pool(pa.system_memory_pool())


def warm_up(encoder: Encoder) -> None:
    """Encodes a few texts, so that the first edit finds the model warm and memory has its size from the start."""
    if encoder.way == "stand-in":
        return
    try:
        encoder.encode(list(WARM_TEXTS), MAX_BATCH_TOKENS)
    except Exception as error:  # the first row that needs a vector meets it again, and is accounted for
        log.debug("the warm-up failed: %s", error)
    give_back()


def clean_up() -> None:
    """Gives back also what an exception and its frames kept; takes some 0.1 s."""
    gc.collect()
    give_back()


def give_back() -> None:
    """Gives memory that was freed back to the system.

    glibc keeps it in the arenas of each thread, for later: with all-MiniLM-L6-v2 a process of 200 MB grew to 350 in its
    first minutes, and stays at 210 this way. Takes 0.3 ms, or 3 to 10 after a big drain.
    """
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
