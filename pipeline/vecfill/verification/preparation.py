"""What to know of a target before its vectors are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vecfill.backfill.checks import check_dimension, check_sql
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.encode.model.fingerprint import fingerprint_of
from vecfill.encode.model.model_files import dimension_of
from vecfill.errors import ConfigError, MixedModelsError
from vecfill.ledger.models import NOT_REGISTERED, known_number, other_models
from vecfill.ledger.registry import Tracked, find_targets, find_tracked, ledger_version
from vecfill.postgres.database import Connection
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.row_security import check_visible
from vecfill.postgres.selection import Selection, selection_of
from vecfill.postgres.transaction import transaction


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A target whose vectors can be compared.

    Attributes:
        relation: the rows to compare.
        whole: the target, of which these may be a part.
        selection: tells which rows have no vector.
        model: the model's number in the ledger.
    """

    relation: Relation
    whole: Target
    selection: Selection
    model: int = NOT_REGISTERED


def prepare(connection: Connection, target: Target, model: Model, *, fix: bool) -> Prepared:
    """Checks the target, and finds it in the ledger.

    Raises:
        ConfigError: something cannot work as given; a fix of a target that is not tracked.
        MixedModelsError: a fix of a target that has another model's vectors.
    """
    relation = inspect(connection, target, key_needed=False)
    selection = selection_of(target)
    check_sql(connection, relation, selection, writing=False)
    check_visible(connection, relation)
    if given := dimension_of(model):
        check_dimension(relation, model, given)
    whole = _whole(connection, relation, target)
    tracked = find_tracked(connection, relation, whole)
    if tracked is None:
        if fix:
            raise ConfigError(
                f"--fix needs a tracked target, and {relation.table.label} is not tracked, so nothing can mark the "
                "rows to embed again: run `vecfill track` first, or set their vectors to NULL and run `vecfill run`"
            )
        return Prepared(relation=relation, whole=whole, selection=selection)
    own = known_number(connection, target.state_schema, fingerprint_of(model).digest)
    tracked = tracked.with_model(own)
    if fix:
        _check_no_other_model(connection, tracked, selection, model)
    part = replace(target, where=_both(whole.where, target.where))
    if part != target:
        relation = inspect(connection, part, key_needed=False)
    relation = replace(relation, tracking=tracked.relation.tracking)
    return Prepared(relation=relation, whole=whole, selection=selection, model=own)


def _whole(connection: Connection, relation: Relation, target: Target) -> Target:
    """Returns the tracked target that these rows are a part of, if there is only one."""
    with transaction(connection, read_only=True) as cursor:
        if not ledger_version(cursor, target.state_schema, relation):
            return target
        known = list(find_targets(cursor, relation, target))
    return replace(target, where=known[0] or None) if len(known) == 1 else target


def _both(whole: str | None, part: str | None) -> str | None:
    """Returns a condition that is met if both are; each was checked to work alone."""
    given = list(dict.fromkeys(one for one in (whole, part) if one))
    return given[0] if len(given) == 1 else " AND ".join(f"(\n{one}\n)" for one in given) or None


def _check_no_other_model(connection: Connection, tracked: Tracked, selection: Selection, model: Model) -> None:
    """Checks that a fix leaves no other model's vectors beside this one's."""
    if others := other_models(connection, tracked, selection):
        figures = ", ".join(f"{rows:,} by {name}" for name, rows in others.items())
        raise MixedModelsError(
            f"--fix would mix models: {tracked.relation.table.label} holds {figures}, and this is {model.name}: choose "
            "the other model, or replace its vectors by `vecfill run --select all`"
        )
