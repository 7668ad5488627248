"""The length that an API's vectors must have."""

from __future__ import annotations

from vecfill.encode.api.answer import WrongAnswerError
from vecfill.errors import ConfigError


class Dimension:
    """Checks answer after answer: the first tells of a model that does not fit, later ones are held to it.

    Attributes:
        value: the dimension, None until something tells it.
    """

    def __init__(self, what: str, wanted: int | None, asked: int | None) -> None:
        """Takes the column's dimension (``wanted``) and --truncate-dim (``asked``), None where there is none."""
        self._what, self._asked = what, asked
        self.value = asked or wanted
        self._seen = False

    def check(self, given: int) -> None:
        """Compares the dimension of an answer.

        Raises:
            WrongAnswerError: another than earlier answers had.
            ConfigError: the first answer's is not the one that is wanted.
        """
        if self.value in (None, given):
            self.value, self._seen = given, True
        elif self._seen:
            raise WrongAnswerError(f"its vectors have {given} dimensions, and those before had {self.value}")
        elif self._asked is not None:
            raise ConfigError(
                f"{self._what} gives {given} dimensions although --truncate-dim asks for {self._asked}: it cannot "
                "shorten its vectors; leave --truncate-dim out"
            )
        else:
            raise ConfigError(
                f"the embedding column has {self.value} dimensions but {self._what} gives {given}: set --truncate-dim "
                "where the model can shorten its vectors, or choose another model or column"
            )
