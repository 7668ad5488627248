"""Keeps a Ray cluster, its encoders, and the model in this process for the next run."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecfill.engine.coordinator import Coordination
    from vecfill.engine.pools import Pools


class Warm:
    """Starts each part at its first use and then reuses it. Close it at the end.

    Attributes:
        kept: objects that the inline engine keeps in this process, such as a loaded model.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self._stack = ExitStack()
        self._address: str | None = None
        self._encoders: list[Any] = []
        self._reserved: tuple[Any, ...] = ()
        self._coordinator: Any = None

    def cluster(self, address: str | None, *, verbose: bool) -> dict[str, float]:
        """Returns the resources of the cluster at ``address``, or of one on this machine; joins or starts it first.

        Raises:
            ConfigError: no cluster answers there.
        """
        from vecfill.engine.cluster import cluster

        if address != self._address:
            self._leave()
        self._address = address
        return self._stack.enter_context(cluster(address, verbose=verbose))

    def encoders(self, pools: Pools, calls: int) -> list[Any]:
        """Returns encoder actors on the cluster; reuses those of an earlier run if they reserve the same resources."""
        from vecfill.engine.encoders import start_encoders

        reserve = (pools.encoders, pools.cpus, pools.gpus, calls)
        if reserve != self._reserved:
            self.free()
            self._encoders = start_encoders(pools.encoders, cpus=pools.cpus, gpus=pools.gpus, calls=calls)
            self._reserved = reserve
        return self._encoders

    def coordination(self) -> Coordination:
        """Returns a new run at the coordinator of the cluster, which all runs share; starts it if none is alive."""
        from vecfill.engine.coordinator import Coordination, Coordinator, answers

        if self._coordinator is None or not answers(self._coordinator):
            self._coordinator = Coordinator.remote()  # type: ignore[attr-defined]  # by ray.remote
        return Coordination(self._coordinator)

    def free(self) -> None:
        """Ends the encoders, so that others on the cluster get their CPUs and GPUs."""
        from vecfill.engine.encoders import end_actors

        end_actors(self._encoders)
        self._encoders, self._reserved = [], ()

    def close(self) -> None:
        """Ends the encoders, leaves the cluster, and forgets the model."""
        self.kept.clear()
        self._leave()

    def _leave(self) -> None:
        if self._encoders:
            self.free()
        if self._coordinator:
            from vecfill.engine.encoders import end_actors

            end_actors([self._coordinator])
            self._coordinator = None
        self._stack.close()
