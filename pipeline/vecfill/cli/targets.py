"""Several targets in one file: they run one after the other, and an error in one does not stop the next."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import click

from vecfill.cli.error_lines import defect, described, print_error, report_failure
from vecfill.cli.logs import log_to_stderr
from vecfill.config.output import Output
from vecfill.config.settings import Settings
from vecfill.errors import ConfigError, ServerGoneError, UnreachableError
from vecfill.termination import SIGNALLED, stop_code

log = logging.getLogger(__name__)

_BY_WEIGHT = (0, 3, 5, 4, 2, 1)
"""Exit codes of a target, the worst last; a stop has a higher code and is worse than all of them."""


class Ended(Protocol):
    """The outcome of a target: the result of a verb, or ``Failed``."""

    @property
    def exit_code(self) -> int:
        """The exit code of a command that works on this target alone."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""


@dataclass(frozen=True)
class Failed:
    """A target that ended with an error."""

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
"""Error of a target whose server has not answered before: it would wait equally long."""


def for_each_target(
    flags: dict[str, Any],
    config: Path | None,
    output: Output,
    prepared: Callable[[Settings], Callable[[], E]],
    show: Callable[[E, Settings], None],
) -> NoReturn:
    """The whole of a verb that treats its targets alike: loads the settings, works, prints, exits.

    Args:
        flags: of the command line.
        config: the file of settings.
        output: whether to print JSON.
        prepared: checks the settings of a target and returns its work, so that none starts before all are checked.
        show: prints the result of a target.
    """
    log_to_stderr(output)
    targets = Settings.load_all(flags, config)
    ended = carry_out(targets, [prepared(settings) for settings in targets])
    code = worst(one.exit_code for one in ended)
    if output.json:
        click.echo(json.dumps(as_dict(targets, ended, code)))
    else:
        for settings, one in zip(targets, ended, strict=False):  # a stop leaves out the last ones
            if not isinstance(one, Failed):
                show(one, settings)
    sys.exit(code)


def carry_out(
    targets: Sequence[Settings],
    work: Sequence[Callable[[], E]],
    show: Callable[[Any], None] = lambda _: None,
    after: Callable[[Settings, Ended], BaseException | None] = lambda *_: None,
) -> list[E | Failed]:
    """Calls each target's ``work`` in turn. With one target, its error is raised.

    With several, an error is printed on stderr (a defect with its traceback) and becomes a ``Failed``. A target is
    skipped if its server did not answer for an earlier one: it would wait equally long. A stop ends all.

    Args:
        targets: their settings.
        work: the function to call for each.
        show: called with each result at once.
        after: called then, and with each ``Failed``; returns the signal that interrupted it, if one did.
    """
    if len(targets) == 1:
        return [_alone(targets[0], work[0], show, after)]
    return list(_in_order(targets, work, show, after))


def _alone(
    settings: Settings,
    work: Callable[[], E],
    show: Callable[[Any], None],
    after: Callable[[Settings, Ended], BaseException | None],
) -> E:
    try:
        ended = work()
    except BaseException as error:
        after(settings, failed(settings, error))
        raise
    show(ended)
    after(settings, ended)
    return ended


def failed(settings: Settings, error: BaseException) -> Failed:
    """Returns a target that this error ended; prints nothing."""
    if isinstance(error, KeyboardInterrupt):
        return Failed(str(settings.table), "stopped", stop_code(error))
    return Failed(str(settings.table), *(described(error) or defect(error)))


def _in_order(
    targets: Sequence[Settings],
    work: Sequence[Callable[[], E]],
    show: Callable[[Any], None],
    after: Callable[[Settings, Ended], BaseException | None],
) -> Iterator[E | Failed]:
    gone: dict[object, int] = {}
    stop: BaseException | None = None
    for settings, of_target in zip(targets, work, strict=True):
        place = settings.database, settings.password_command
        if stop:
            yield _failed(settings, "stopped", stop_code(stop))
            return
        ended = _failed(settings, SAME_SERVER, gone[place]) if place in gone else _tried(settings, of_target)
        if isinstance(ended, Failed):
            if ended.gone:
                gone[place] = ended.exit_code
        else:
            show(ended)
        stop = after(settings, ended)
        yield ended
        if is_stop(ended.exit_code):
            return


def _tried(settings: Settings, work: Callable[[], E]) -> E | Failed:
    try:
        return work()
    except KeyboardInterrupt as stop:  # outside the part of a run in which a signal ends with a result
        return _failed(settings, "stopped", stop_code(stop))
    except Exception as error:
        table = str(settings.table)
        if (reported := report_failure(error, table=table)) is None:
            reported = defect(error)
            log.exception("%s: %s", table, reported[0], extra={"table": table, "exit_code": reported[1]})
        return Failed(table, *reported, gone=isinstance(error, ServerGoneError | UnreachableError))


def _failed(settings: Settings, message: str, exit_code: int) -> Failed:
    table = str(settings.table)
    print_error(message, table=table, exit_code=exit_code)
    return Failed(table, message, exit_code)


def is_stop(code: int) -> bool:
    """Whether the code means that a signal stopped the command."""
    return code > SIGNALLED


def worst(codes: Iterable[int], *, wrote: bool = False) -> int:
    """Returns the worst exit code: of a stop, else an unknown one, else 1 (failed), 2, 4, 5, 3, 0 in this order.

    Args:
        codes: of the targets.
        wrote: one of them was written, so that 2, by which nothing is, becomes 1.
    """
    weight = {code: position for position, code in enumerate(_BY_WEIGHT)}
    code = max(codes, key=lambda code: (is_stop(code), weight.get(code, len(weight))), default=0)
    return 1 if wrote and code == ConfigError.exit_code else code


def as_dict(targets: Sequence[Settings], ended: Sequence[Ended], exit_code: int) -> dict[str, Any]:
    """Returns plain values, for JSON: one target as it is; several as ``targets``, in order, and the ``exit_code``.

    After a stop, the last of ``targets`` is the one that was stopped.
    """
    if len(targets) == 1:
        return ended[0].as_dict()
    return {"targets": [one.as_dict() for one in ended], "exit_code": exit_code}
