"""The table to fill, and the text to embed."""

from __future__ import annotations

from pydantic import Field

from vecfill.config.queue_options import QueueOptions
from vecfill.config.spec import Spec, option, spec
from vecfill.errors import ConfigError


@spec
class Target(Spec):
    r"""A table, its embedding column, and the text to embed.

    Attributes:
        table: in SQL notation, such as ``public.jobs`` or ``"Odd Schema"."order"``.
        text: a template (``{title} at {company}``) or the name of one column; ``run`` needs it.
        column: the embedding column, spelled as in the catalogue.
        key: columns of a unique index, spelled as in the catalogue; empty for the primary key.
        where: SQL condition that selects the rows to fill.
        set: assignments made in the same UPDATE as the vector, such as ``updated_at = now()``.
        dim: dimension of a ``vector`` or array column that declares none.
        zero_is_missing: vectors of zeros and empty arrays are placeholders and count as missing.
        text_sql: the text as an SQL expression over the row, in place of ``text``.
        state_schema: schema of the ledger, which remembers the origin of the vectors of tracked targets.
        queue: a queue table of the application's own that names the rows to embed.
    """

    table: str = option(
        'Table in SQL notation: public.jobs, or "Odd Schema"."order" with its quotes.', metavar="NAME", short="-t"
    )
    text: str | None = option(
        r"Text to embed: a template such as '{title} at {company}\n{description}', or the name of one column.",
        default=None,
        metavar="TEMPLATE",
    )
    text_sql: str | None = option(
        "Text to embed as an SQL expression over the row, instead of --text; it may have subqueries.",
        default=None,
        metavar="SQL",
    )
    column: str = option(
        "Embedding column, of type vector, halfvec, real[] or double precision[].", default="embedding", metavar="NAME"
    )
    key: tuple[str, ...] = option(
        "Key column; repeat it for a composite key. Needs a unique index over NOT NULL columns.",
        default=(),
        unset="the primary key",
        metavar="NAME",
    )
    where: str | None = option(
        "Only use rows that meet this SQL condition, such as \"status = 'open'\".",
        default=None,
        metavar="SQL",
        blank=True,
    )
    set: tuple[str, ...] = option(
        "Also assign this in the same UPDATE, such as 'updated_at = now()'; repeatable.", default=(), metavar="SQL"
    )
    dim: int | None = option(
        "Dimension of the column; needed only if its type, its vectors and the model do not give one.",
        default=None,
        gt=0,
        le=16_000,
    )
    zero_is_missing: bool = option(
        "Count vectors of zeros and empty arrays as missing: placeholders of a NOT NULL column.", default=False
    )
    state_schema: str = option("Schema of the ledger of tracked targets.", default="vecfill", metavar="NAME")
    queue: QueueOptions = Field(default_factory=QueueOptions)

    def __post_init__(self) -> None:
        if self.text is not None and self.text_sql is not None:
            raise ConfigError(
                f"--text {self.text!r} and --text-sql {self.text_sql!r} exclude each other: set only one of them"
            )
