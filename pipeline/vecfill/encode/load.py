"""From a model's spec to the encoder that computes its vectors."""

from __future__ import annotations

from collections.abc import Callable

from vecfill.config.model import Model
from vecfill.encode.api.budget import Budget
from vecfill.encode.encoder import Encoder
from vecfill.encode.model.model_files import dimension_of
from vecfill.encode.model.model_location import hash_dimension, hash_salt, portable
from vecfill.errors import ConfigError
from vecfill.folders import temporary

LOCAL_BLOCKS, API_BLOCKS = 2, 8
"""Blocks in an encoder at a time. A local model tokenizes one while it computes another; more would only hold memory.
An API's requests wait for a network; eight blocks of 2,048 vectors of 3,072 dimensions are 200 MB."""

BLOCK_ROWS = 512
"""Rows of the smallest block, except in small tables."""


def load_model(
    model: Model,
    threads: int | None = None,
    *,
    gpu_share: float = 1.0,
    dim: int | None = None,
    budget: Budget | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Encoder:
    """Loads the model, which takes seconds and imports torch (``hash:DIM`` and APIs do neither).

    Args:
        model: which one.
        threads: CPU threads for torch; None keeps its own default.
        gpu_share: share of a GPU's memory that this process may take.
        dim: length that an API's vectors must have; its first answer is checked against it.
        budget: shared by several encoders of an API; None applies the limits to this encoder alone.
        stopped: asked before each request to an API, and while waiting for one; once it is true, nothing is sent.

    Raises:
        ConfigError: the model, device, prompt, a limit or a folder for temporary files is not available; see
            ``TransformerEncoder``.
    """
    if model.is_api:
        from vecfill.encode.api.api_encoder import ApiEncoder

        return ApiEncoder(portable(model), dim=dim, budget=budget, stopped=stopped)
    width = dimension_of(model)
    if hash_dimension(model) is not None and width is not None:
        from vecfill.encode.hash_encoder import HashEncoder

        if model.max_tokens is not None:
            raise ConfigError(f"--max-tokens is {model.max_tokens} but {model.name} counts no tokens: leave it out")
        if model.long != "truncate":
            raise ConfigError(f"--long is {model.long} but {model.name} counts no tokens: leave it out")
        return HashEncoder(width, hash_salt(model))
    temporary()  # torch cannot be imported without one
    from vecfill.encode.local_encoder import local_encoder

    return local_encoder(model, threads, gpu_share)


def blocks_at_once(model: Model) -> int:
    """Returns how many blocks an encoder takes at a time: for an API enough to keep all its requests in flight."""
    if not model.is_api:
        return LOCAL_BLOCKS
    requests_per_block = -(-BLOCK_ROWS // model.api.request_inputs)
    return max(LOCAL_BLOCKS, min(API_BLOCKS, -(-model.api.max_concurrency // requests_per_block)))
