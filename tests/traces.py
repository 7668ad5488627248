"""A test leaves no trace that another can see: what it changed in this process is put back, and the test fails for it.

Filters of warnings are not watched: pytest itself restores them after each phase of a test.
"""

from __future__ import annotations

import contextvars
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

SIGNALS = sorted(signal.valid_signals() - {signal.SIGALRM, signal.SIGKILL, signal.SIGSTOP})
"""All but those that nobody can handle, and the one that pytest-timeout sets for each test."""

IMPORTED = {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR"}
"""Variables that scikit-learn and torch set once, when they are imported."""

_ABSENT = object()


class _Kind(NamedTuple):
    read: Callable[[], dict[Any, Any]]
    put: Callable[[Any, Any], None]


def _loggers() -> dict[str, Any]:
    found = {name: one for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)}
    return {name: _logger(one) for name, one in [("", logging.root), *found.items()]}


def _logger(one: logging.Logger) -> tuple[Any, ...]:
    handlers = tuple(handler for handler in one.handlers if not _of_pytest(handler)) if one.handlers else ()
    return one.level, one.propagate, one.disabled, handlers, tuple(one.filters)


def _of_pytest(handler: logging.Handler) -> bool:
    return type(handler).__module__ == "_pytest.logging"


def _put_logger(name: str, state: Any) -> None:
    one = logging.getLogger(name)
    level, one.propagate, one.disabled, handlers, filters = state
    one.setLevel(level)
    one.handlers[:] = [*(handler for handler in one.handlers if _of_pytest(handler)), *handlers]
    one.filters[:] = filters


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST" and name not in IMPORTED}


def _put_variable(name: str, value: Any) -> None:
    if value is _ABSENT:
        del os.environ[name]
    else:
        os.environ[name] = value


def _context() -> dict[contextvars.ContextVar[Any], Any]:
    return dict(contextvars.copy_context().items())


def _put_context(variable: contextvars.ContextVar[Any], value: Any) -> None:
    if value is not _ABSENT:  # one that was never set cannot be unset again
        variable.set(value)


def _handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in SIGNALS}


def _put_handler(number: signal.Signals, handler: Any) -> None:
    if handler is not None:  # one that Python did not set, it cannot set again
        signal.signal(number, handler)


def _interpreter() -> dict[str, Any]:
    return {
        "working folder": os.getcwd(),  # noqa: PTH109 -- a tenth of the time of Path.cwd()
        "sys.path": sys.path[:],
        "sys.argv": sys.argv[:],
        "sys.excepthook": sys.excepthook,
        "threading.excepthook": threading.excepthook,
    }


def _put_interpreter(name: str, value: Any) -> None:
    if name == "working folder":
        os.chdir(value)
    elif isinstance(value, list):
        getattr(sys, name.removeprefix("sys."))[:] = value
    else:
        module, attribute = name.split(".")
        setattr(sys.modules[module], attribute, value)


def _torch() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_dtype"):
        return {}
    return {"set_num_threads": torch.get_num_threads(), "set_default_dtype": torch.get_default_dtype()}


def _put_torch(name: str, value: Any) -> None:
    getattr(sys.modules["torch"], name)(value)


_KINDS = {
    "logger": _Kind(_loggers, _put_logger),
    "environment": _Kind(_variables, _put_variable),
    "context variable": _Kind(_context, _put_context),
    "signal": _Kind(_handlers, _put_handler),
    "interpreter": _Kind(_interpreter, _put_interpreter),
    "torch": _Kind(_torch, _put_torch),
}
_SET_AT_IMPORT = {"logger", "torch"}
"""Kinds whose new members are no trace: they come with a library that the test is the first to import."""

for name in ("vecfill", "psycopg"):
    logging.getLogger(name)  # or it would be new to the test that first changes it


@contextmanager
def no_trace() -> Iterator[None]:
    """Puts back what the body changed, and fails naming it."""
    before, had_ray = {kind: _KINDS[kind].read() for kind in _KINDS}, "ray" in sys.modules
    yield
    if "ray" in sys.modules and not had_ray:  # its import alone changes these
        before["interpreter"] |= {name: _interpreter()[name] for name in ("sys.path", "sys.excepthook")}
    traces = [trace for kind in _KINDS for trace in _restored(kind, before[kind])]
    if traces:
        pytest.fail("left behind: " + "; ".join(traces), pytrace=False)


@contextmanager
def loggers_restored() -> Iterator[None]:
    """For a body that may set up logging and handlers of signals, as the command line does."""
    before = {kind: _KINDS[kind].read() for kind in ("logger", "signal")}
    yield
    for kind, state in before.items():
        list(_restored(kind, state))


def _restored(kind: str, before: dict[Any, Any]) -> Iterator[str]:
    after = _KINDS[kind].read()
    if after == before:
        return
    for name in after | before:
        was, now = before.get(name, _ABSENT), after.get(name, _ABSENT)
        if was == now or (was is _ABSENT and kind in _SET_AT_IMPORT) or _of_ray(name, now):
            continue
        _KINDS[kind].put(name, was)
        yield f"{kind} {getattr(name, 'name', name)} is {_shown(now)}, was {_shown(was)}"


def _of_ray(name: Any, now: Any) -> bool:
    """Ray sets up loggers, variables and a handler once a process, at its import and for a cluster that tests share."""
    if "ray" not in sys.modules:
        return False
    texts = (name, now, getattr(now, "__module__", None))
    return any(isinstance(text, str) and re.match(r"ray([._]|$)", text, re.IGNORECASE) for text in texts)


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else repr(value)
