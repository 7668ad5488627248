"""Starts or joins a Ray cluster, hides its output, and unwraps our errors."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vecfill.engine.ray_folder import inside, own_token, ray_folder
from vecfill.errors import ConfigError, EngineError, StoppedError, VecfillError

_QUIET = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}

PROBE_S = 5.0
"""Seconds to wait until a cluster's address accepts a connection."""

OBJECT_STORE_BYTES = 1 << 30
"""Shared memory of a cluster that we start: about twenty blocks in flight, each of at most 32 MiB of text."""


@contextlib.contextmanager
def cluster(address: str | None, *, verbose: bool) -> Iterator[dict[str, float]]:
    """Joins the cluster at ``address`` or starts one here, yields its resources, and leaves it at the end.

    A cluster that this process has joined before is used and left as it is.

    Raises:
        ConfigError: no cluster answers at ``address``, or none can be started here.
    """
    if not verbose:
        os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    import ray

    if ray.is_initialized():
        yield _resources()
        return
    with ray_folder() as folder, own_token(folder, joins=address is not None):
        try:
            _start(address, folder, verbose)
            _hush(verbose)
            yield _resources()
        finally:
            ray.shutdown()


def _resources() -> dict[str, float]:
    """The cluster's resources, with the number of nodes with CPUs (``nodes``) and with GPUs (``GPU nodes``).

    ``CPU a node`` are the CPUs of the smallest node.
    """
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [cpus for node in alive if (cpus := node.get("CPU", 0.0)) >= 1]
    nodes = {"nodes": float(len(cores) or 1), "CPU a node": min(cores, default=1.0)}
    with_gpus = sum(node.get("GPU", 0.0) > 0 for node in alive)
    return {**ray.cluster_resources(), **nodes, **({"GPU nodes": float(with_gpus)} if with_gpus else {})}


def _start(address: str | None, folder: Path, verbose: bool) -> None:
    """Starts or joins a cluster from an empty folder.

    Ray puts the current folder on its workers' import path, where a user's own ``vecfill/`` would shadow ours.
    """
    import ray

    if address:
        _check_reachable(address)
    ours = {"_temp_dir": str(folder), "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    empty = folder / "cwd"
    empty.mkdir()
    quiet = contextlib.nullcontext() if verbose else _without_stderr()
    with inside(empty), sigterm_kept(), quiet, importing("ray.data"):
        try:
            ray.init(
                address=address or "local",
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.CRITICAL,
                **({} if address else ours),
            )
        except Exception as error:  # Ray raises bare ones too
            reason = str(error).strip().partition("\n")[0]
            raise _no_cluster(address, reason) if address else _no_start(reason) from error


@contextlib.contextmanager
def importing(module: str) -> Iterator[None]:
    """Imports a module beside the body: ``ray.init`` waits for other processes, and ``ray.data`` takes a second."""
    with ThreadPoolExecutor(1, "import") as thread:
        imported = thread.submit(importlib.import_module, module)
        yield
    imported.result()


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Keeps the program's handler of SIGTERM: ``ray.init`` installs one that raises SystemExit.

    Raises:
        StoppedError: SIGTERM came meanwhile; the program's handler was called.
    """
    ours = signal.getsignal(signal.SIGTERM)
    if not callable(ours):
        yield
        return
    try:
        yield
    except SystemExit:
        ours(signal.SIGTERM, None)
        raise StoppedError("interrupted by the stop") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)


def _check_reachable(address: str) -> None:
    """Checks that something listens at ``host:port``: Ray itself retries silently for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return  # auto, local
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    except OSError as error:
        raise _no_cluster(address, str(error)) from error


def _no_start(reason: str) -> ConfigError:
    return ConfigError(
        f"Ray does not start on this machine: {reason}: check that TMPDIR and /dev/shm can be written, and that memory "
        "is free; --engine inline works without Ray, and --verbose shows more"
    )


def _no_cluster(address: str, reason: str) -> ConfigError:
    token = "" if "RAY_AUTH_MODE" in os.environ else ", set RAY_AUTH_MODE=token where the cluster asks for a token"
    return ConfigError(
        f"no Ray cluster answers at {address}: {reason}: check --ray-address{token}, or leave it out to start one here"
    )


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Keeps Ray's C++ core from printing its log level to the terminal."""
    if sys.stderr is None:  # closed by the parent process
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _hush(verbose: bool) -> None:
    """Keeps Ray Data's log lines off the terminal; Ray writes them to files in its session folder."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.raise_original_map_exception = True
    if verbose:
        return
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = False


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """Raises our own error if Ray wraps one, and ``EngineError`` for an error of Ray."""
    try:
        yield
    except Exception as error:
        ours = _ours(error)
        if ours is not None and ours.args:  # Ray Data appends advice about retries
            ours.args = (str(ours.args[0]).split("\nFailed to ", 1)[0], *ours.args[1:])
        if ours is not None and ours is not error:
            raise ours from error
        if ours is None and type(error).__module__.startswith("ray."):
            reason = str(error).strip().split("\n", 1)[0]
            raise EngineError(
                f"a Ray process failed ({type(error).__name__}: {reason}): committed rows are kept, and a rerun "
                "continues; --verbose shows more"
            ) from error
        raise


def _ours(error: BaseException | None) -> VecfillError | None:
    """The first error of ours in the chain of causes, Ray's own ``cause`` attribute included."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        found = todo.pop()
        if isinstance(found, BaseException) and id(found) not in seen:
            if type(found).__module__.startswith("vecfill.") and isinstance(found, VecfillError):
                return found
            seen.add(id(found))
            todo += [found.__context__, found.__cause__, getattr(found, "cause", None)]
    return None
