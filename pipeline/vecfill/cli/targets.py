"""Several targets in one file: one after the other, an error in one not keeping the next from its turn."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from vecfill.cli.failures import print_error, report_failure
from vecfill.config.settings import Settings
from vecfill.errors import ServerGoneError, UnreachableError

EXIT_SIGNAL = 128
"""Added to a signal's number, by the shell's convention."""

_BY_WEIGHT = (0, 3, 5, 2, 1)
"""Exit codes of a target, the worst last; a stop, whose code is above these, outweighs them all."""


class Ended(Protocol):
    """What became of a target: the result of a verb, or ``Failed``."""

    @property
    def exit_code(self) -> int:
        """As if the target had stood alone."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""


@dataclass(frozen=True)
class Failed:
    """A target whose turn ended with an error."""

    table: str
    error: str
    exit_code: int
    gone: bool = False
    """The server does not answer."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"table": self.table, "error": self.error, "exit_code": self.exit_code}


E = TypeVar("E", bound=Ended)

SAME_SERVER = "not tried: its server did not answer for an earlier target"
"""Error of a target that would only wait as long again."""


def carry_out(
    targets: Sequence[Settings], work: Sequence[Callable[[], E]], show: Callable[[Any], None] = lambda _: None
) -> list[E | Failed]:
    """Calls each target's ``work`` in turn. The error of one that stands alone is the command's, and is raised.

    Of several, an error of ours or the server's is told on stderr and becomes a ``Failed``. One whose server was gone
    for an earlier one is not tried: it would wait as long again. A stop ends all.

    Args:
        targets: their settings.
        work: what is to be done for each.
        show: told of each result as soon as it is there.
    """
    if len(targets) == 1:
        show(alone := work[0]())
        return [alone]
    return list(_in_order(targets, work, show))


def _in_order(
    targets: Sequence[Settings], work: Sequence[Callable[[], E]], show: Callable[[Any], None]
) -> Iterator[E | Failed]:
    gone: dict[object, int] = {}
    for settings, of_target in zip(targets, work, strict=True):
        place = settings.database, settings.password_command
        ended = _failed(settings, SAME_SERVER, gone[place]) if place in gone else _tried(settings, of_target)
        if isinstance(ended, Failed):
            if ended.gone:
                gone[place] = ended.exit_code
        else:
            show(ended)
        yield ended
        if is_stop(ended.exit_code):
            return


def _tried(settings: Settings, work: Callable[[], E]) -> E | Failed:
    try:
        return work()
    except KeyboardInterrupt:  # before or after the part of a run that a signal ends with an account
        return _failed(settings, "stopped", EXIT_SIGNAL + signal.SIGINT)
    except Exception as error:
        table = str(settings.table)
        if (reported := report_failure(error, table=table)) is None:
            raise
        return Failed(table, *reported, gone=isinstance(error, ServerGoneError | UnreachableError))


def _failed(settings: Settings, message: str, exit_code: int) -> Failed:
    table = str(settings.table)
    print_error(message, table=table, exit_code=exit_code)
    return Failed(table, message, exit_code)


def is_stop(code: int) -> bool:
    """Whether a signal ended it."""
    return code > EXIT_SIGNAL


def worst(codes: Iterable[int]) -> int:
    """The exit code of several targets: a stop, else 1 (failed) before 2, 5, 3 and 0."""
    return max(codes, key=lambda code: len(_BY_WEIGHT) if is_stop(code) else _BY_WEIGHT.index(code), default=0)


def as_dict(targets: Sequence[Settings], ended: Sequence[Ended]) -> dict[str, Any]:
    """For JSON: a target that stands alone as it is; of several ``targets``, in their order, and the ``exit_code``.

    After a stop the last of ``targets`` is the one that was stopped.
    """
    if len(targets) == 1:
        return ended[0].as_dict()
    return {"targets": [one.as_dict() for one in ended], "exit_code": worst(one.exit_code for one in ended)}
