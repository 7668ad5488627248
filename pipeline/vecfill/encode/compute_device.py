"""The device that torch computes on."""

from __future__ import annotations

import platform

import torch

from vecfill.errors import ConfigError


def resolve_device(device: str) -> str:
    """Returns ``cuda`` or ``cpu`` for ``--device``.

    Raises:
        ConfigError: it is ``cuda`` and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ConfigError("--device is cuda but torch finds no CUDA device: use auto or cpu, or check the driver")
    return ("cuda" if available else "cpu") if device == "auto" else device


def cpu_kind() -> str:
    """Returns the CPU's architecture and the instructions that torch uses on it, on which roundings depend."""
    return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
