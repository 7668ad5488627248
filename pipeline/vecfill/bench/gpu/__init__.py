"""``scripts/gpu-check``: whether a device computes right, and how fast; needs no network, database or Ray."""
