"""What several runs of one process need to start only once: a Ray cluster, and the model in this process."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from vecfill.config.model import Model
from vecfill.encode.encoder import Encoder
from vecfill.encode.load import load_model


class Shared:
    """Starts at the first asking and gives the same again; to be closed at the end.

    On Ray the encoders live as long as a sweep, so that each target loads the model anew there: a pool that outlived
    it would keep the GPU from whatever comes next. The cluster itself, which takes longer, is kept.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._address: str | None = None
        self._loaded: tuple[Model, int | None] | None = None
        self._encoder: Encoder | None = None

    def load(self, model: Model, threads: int | None, **api: Any) -> Encoder:
        """The model, loaded once for as long as no other is asked for: two may be too much for the memory.

        An API's encoder is each run's own, with its budget; ``api`` is for it alone.

        Raises:
            ConfigError: as ``Model.load``.
        """
        if model.is_api:
            return load_model(model, threads, **api)
        if self._encoder is None or self._loaded != (model, threads):
            self._encoder = None
            self._encoder, self._loaded = load_model(model, threads), (model, threads)
        return self._encoder

    def cluster(self, address: str | None, *, verbose: bool) -> dict[str, float]:
        """The resources of the cluster at ``address``, or of one on this machine, joined or started where it is not.

        Raises:
            ConfigError: no cluster answers there.
        """
        from vecfill.engine.cluster import cluster

        if address != self._address:
            self._stack.close()
        self._address = address
        return self._stack.enter_context(cluster(address, verbose=verbose))

    def close(self) -> None:
        """Leaves the cluster, and forgets the model."""
        self._encoder = None
        self._stack.close()
