"""The device by itself: what it is, and the rates of its matrix products and copies."""

from __future__ import annotations

from typing import Any

from vecfill.bench.gpu.budget import best_seconds

_SIDE = {"cuda": 8_192, "cpu": 256}
_COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 22}
_SECONDS = 0.5


def card(device: str) -> dict[str, Any]:
    """Returns name, memory, versions, matrix FLOP a second by type, and bytes a second of each kind of copy."""
    import torch

    facts: dict[str, Any] = {"device": device, "torch": torch.__version__, "cuda": torch.version.cuda}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "capability": list(torch.cuda.get_device_capability()),
            "gpus": torch.cuda.device_count(),
        }
    types = ("bfloat16", "float16", "float32") if device == "cuda" else ("float32",)
    facts["matrix_flops"] = {name: _matrix_rate(device, getattr(torch, name)) for name in types}
    return facts | {"copy_bytes_per_s": _copies(device)}


def _matrix_rate(device: str, dtype: Any) -> float:
    """FLOP a second of a square product on random data: on zeros a GPU is faster."""
    import torch

    side = _SIDE[device]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2.0 * side**3 / best_seconds(lambda: synchronized(lambda: left @ right, device), _SECONDS)


def _copies(device: str) -> dict[str, float]:
    import torch

    size = _COPY_BYTES[device]
    there, other = (torch.randint(0, 255, (size,), dtype=torch.uint8, device=device) for _ in range(2))
    pairs = {"on the device, read and written": (other, there, 2)}
    if device == "cuda":
        pinned, plain = torch.empty(size, dtype=torch.uint8, pin_memory=True), torch.empty(size, dtype=torch.uint8)
        pairs |= {
            "to the device, pinned": (there, pinned, 1),
            "to the host, pinned": (pinned, there, 1),
            "to the host, pageable": (plain, there, 1),
        }
    return {name: times * _copy_rate(to, of, device) for name, (to, of, times) in pairs.items()}


def _copy_rate(to: Any, of: Any, device: str) -> float:
    return float(of.numel()) / best_seconds(lambda: synchronized(lambda: to.copy_(of), device), _SECONDS)


def synchronized(work: Any, device: str) -> None:
    """Does the work and waits until the device has done it."""
    import torch

    work()
    if device == "cuda":
        torch.cuda.synchronize()
