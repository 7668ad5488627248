"""The device that torch computes on."""

from __future__ import annotations

import platform

import torch

from vecfill.errors import ConfigError

_CONTEXT = 0.01
"""Share of a GPU's memory that a process takes beside torch's own."""


def resolve_device(device: str) -> str:
    """Returns ``cuda`` or ``cpu`` for ``--device``.

    Raises:
        ConfigError: it is ``cuda`` and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ConfigError("--device is cuda but torch finds no CUDA device: use auto or cpu, or check the driver")
    return ("cuda" if available else "cpu") if device == "auto" else device


def share_memory(share: float) -> None:
    """Limits this process to a share of the GPU's memory, in (0, 1): several encoders compute on it.

    Each process needs some memory beside torch's for its context.
    """
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(max(share - _CONTEXT, share / 2))


def device_kind(device: str) -> str:
    """Returns the kind of ``cuda`` or ``cpu``, with what its roundings and its speed depend on."""
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return f"cuda {torch.cuda.get_device_name()} sm_{major}{minor} with CUDA {torch.version.cuda}"
    return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
