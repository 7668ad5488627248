"""Fields that every log line of a piece of work carries: the target and the id of the run.

They follow the work into the threads that it starts, if those run in a copy of its context (``in_context``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_FIELDS: ContextVar[Mapping[str, Any]] = ContextVar("vecfill_log_fields", default={})  # noqa: B039 -- never changed


@contextmanager
def logged_with(**fields: Any) -> Iterator[None]:
    """Gives the log lines of the body these fields."""
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def fields_now() -> Mapping[str, Any]:
    """Returns the fields of the work that this thread does."""
    return _FIELDS.get()


def in_context(work: Callable[P, T]) -> Callable[P, T]:
    """Returns ``work`` for one call in another thread, there with the fields of this one."""
    context = copy_context()

    def call(*args: P.args, **more: P.kwargs) -> T:
        return context.run(work, *args, **more)

    return call


class WithFields(logging.Filter):
    """Puts the fields into each record, in place of its own of these names; for a handler, which sees all loggers.

    One target has one name in all lines: that of the settings, not ``docs`` here and ``public.docs`` there.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Adds the fields; lets every record pass."""
        record.__dict__.update(fields_now())
        return True
