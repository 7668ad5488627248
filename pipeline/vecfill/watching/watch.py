"""The watch: a thread for each target, the models in memory, and whoever wants to know how it goes."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vecfill.config.model import Model
from vecfill.config.watch import WatchOptions
from vecfill.encode.stage import EncodeSpec
from vecfill.engine.signals import SIGNALS, stopping
from vecfill.engine.warm import Warm
from vecfill.errors import ConfigError, StoppedError, VecfillError
from vecfill.interruptible import interruptible
from vecfill.job import Stop, Worker
from vecfill.log_fields import in_context
from vecfill.watching import faults
from vecfill.watching.health import Health
from vecfill.watching.memory import keep_compact, warm_up
from vecfill.watching.said_once import SaidOnce
from vecfill.watching.service_manager import ServiceManager
from vecfill.watching.target_hooks import TargetHooks
from vecfill.watching.target_loop import TargetLoop
from vecfill.watching.watched import Watched, WatchResult

log = logging.getLogger(__name__)

TURN_S = 0.2
"""How often the threads are looked after."""


def watch(
    *targets: Watched, options: WatchOptions | None = None, stop: Stop | None = None, signals: bool = False
) -> WatchResult:
    """Keeps the vectors of the targets up to date until it is stopped.

    A tracked target is asked for its queue of changes, another for its missing rows. A server that is away, a lease
    that another program holds and rows that fail are waited for. A fault of one target does not stop the others.

    Args:
        targets: what to watch.
        options: whether to serve metrics, and where.
        stop: lets another thread end the watch.
        signals: end it cleanly on SIGINT and SIGTERM, in the main thread; the process is all ours.

    Returns:
        How it ended, once it was stopped or every target has a fault that lasts.

    Raises:
        ConfigError: a target, a model or the port cannot work; nothing was written.
    """
    options, stop = options or WatchOptions(), stop or Stop()
    if options.ready_file is not None and not options.ready_file.absolute().parent.is_dir():
        raise ConfigError(f"--ready-file {options.ready_file}: there is no such folder: make it, or choose another")
    if signals:
        keep_compact()
    with ExitStack() as stack:
        stack.enter_context(stopping(stop, signals=signals))
        stack.enter_context(SaidOnce().installed())
        models, start = _Models(stack), threading.Event()
        loops = [TargetLoop(one, models.kept(one.model), start=start) for one in targets]
        health = Health([loop.state for loop in loops])
        if options.metrics is not None:
            from vecfill.watching.status_server import serving

            stack.enter_context(serving(health, options.metrics_host, options.metrics))
        watch = _Watch(loops, stop, health, options.ready_file, keep_handlers=signals)
        with watch.threads():
            models.load(stop)
            watch.check()
            start.set()
            watch.look_after()
        return WatchResult(targets=tuple(loop.ended for loop in loops if loop.ended))


class _Models:
    """What this process keeps of each model; several targets may share one."""

    def __init__(self, stack: ExitStack) -> None:
        self._warm: dict[Model, Warm] = {}
        self._stack = stack

    def kept(self, model: Model) -> dict[str, Any]:
        if model not in self._warm:
            self._warm[model] = Warm()
            self._stack.callback(self._warm[model].close)
        return self._warm[model].kept

    def load(self, stop: Stop) -> None:
        """Loads one after the other; what it costs an API to be ready is nothing.

        Raises:
            ConfigError: a model is not available.
        """
        for model, warm in self._warm.items():
            if not model.is_api and not stop.is_set():
                stage = EncodeSpec(model=model, dim=None, arity=1, column="").stage(
                    Worker(kept=warm.kept, stopped=stop.is_set)
                )
                try:
                    encoder = stage.warm()
                    interruptible(partial(warm_up, encoder), stop.is_set)
                except StoppedError:
                    return


class _Watch:
    """The threads of the targets, and whom to tell."""

    def __init__(
        self, loops: Sequence[TargetLoop], stop: Stop, health: Health, ready_file: Path | None, *, keep_handlers: bool
    ) -> None:
        self._loops, self._stop, self._health, self._ready_file = loops, stop, health, ready_file
        self._threads = [
            threading.Thread(target=in_context(loop), name=f"watch {loop.state.target}", daemon=True) for loop in loops
        ]
        self._hooks = [TargetHooks(loop.hooks, loop.state) for loop in loops]
        self._manager, self._said, self._pinged_at = ServiceManager(), "", 0.0
        self._is_ready: bool | None = None
        self._handlers = {number: signal.getsignal(number) for number in SIGNALS} if keep_handlers else {}

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Starts them; at the end stops them and waits until what is in flight is committed."""
        self._keep_ready_file(ready=False)  # one that a process left that was killed
        for thread in self._threads:
            thread.start()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            self._stop.set("an error")
            error = raised
            raise
        finally:
            self._stop.set("the end of every target")
            self._manager.tell("STOPPING=1")
            self._keep_ready_file(ready=False)
            self._until_over(self._threads)
            self._until_over(self._hooks_called(error))

    def _hooks_called(self, error: BaseException | None = None) -> list[threading.Thread]:
        """Tells the hooks of each target that has ended; of an error that ended all before the start, each."""
        threads = []
        for loop, hooks in zip(self._loops, self._hooks, strict=True):
            ended = loop.ended
            if ended and isinstance(error, VecfillError) and not ended.error:
                ended = replace(ended, error=faults.message(error), exit_code=faults.code(error))
            if ended and not hooks.told:
                hooks.told = True
                threads.append(threading.Thread(target=hooks.ended, args=(ended.as_dict(),), daemon=True))
                threads[-1].start()
        return threads

    def _until_over(self, threads: Sequence[threading.Thread]) -> None:
        """Waits for the threads, with signs of life for whoever looks."""
        while any(thread.is_alive() for thread in threads):
            for loop in self._loops:
                loop.ask_to_stop(self._stop.reason or "the end")
            for thread in threads:
                thread.join(TURN_S / len(threads))
            self._tell()

    def check(self) -> None:
        """Waits until every target was checked.

        Raises:
            VecfillError: one of them cannot be watched.
        """
        for loop in self._loops:
            while not loop.checked.wait(TURN_S) and not self._stop.is_set():
                pass
            if loop.fault is not None:
                raise loop.fault if len(self._loops) == 1 else faults.of_target(loop.fault, loop.state.target)
        self._health.loaded = True

    def look_after(self) -> None:
        """Tells whoever wants to know how it goes, until the watch is to end."""
        self._manager.tell("READY=1")
        while not self._stop.wait(TURN_S) and any(thread.is_alive() for thread in self._threads):
            self._keep_ready_file(ready=self._health.ready)
            self._tell()
            self._hooks_called()
            for hooks in self._hooks:
                hooks.look()
            if threading.current_thread() is threading.main_thread():
                for number, handler in self._handlers.items():
                    signal.signal(number, handler)  # Ray, started in a target's thread, has installed its own

    def _tell(self) -> None:
        status = f"STATUS={self._health.summary}"
        if status != self._said:
            self._said = status
            self._manager.tell(status)
        every, now = self._manager.ping_every_s, time.monotonic()
        if every and now - self._pinged_at > every and self._health.alive:
            self._pinged_at = now
            self._manager.tell("WATCHDOG=1")

    def _keep_ready_file(self, *, ready: bool) -> None:
        if self._ready_file is None or ready == self._is_ready:
            return
        self._is_ready = ready
        try:
            self._ready_file.touch() if ready else self._ready_file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("--ready-file %s: %s", self._ready_file, error.strerror)
