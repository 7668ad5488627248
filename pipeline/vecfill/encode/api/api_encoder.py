"""An embedding API as an ``Encoder``: texts in requests, side by side, every vector at its text."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Final

import numpy as np
import numpy.typing as npt

from vecfill.bisection import isolate
from vecfill.config.model import Model
from vecfill.encode.api.answer import Answer
from vecfill.encode.api.budget import Budget, RequestBudget
from vecfill.encode.api.caller import Caller, TooDearError
from vecfill.encode.api.concurrency import Stopped
from vecfill.encode.api.event_loop import LoopThread
from vecfill.encode.api.faults import RefusedError
from vecfill.encode.api.terms import limits_of, price_of
from vecfill.encode.api.token_counts import Estimate, Exact, Prepared, requests
from vecfill.encode.api.usage import Meter, Usage
from vecfill.encode.encoder import MOST_TOKENS, Encoding
from vecfill.encode.model_location import locate_model
from vecfill.errors import ConfigError

PROBE = "dimension"
"""Text that is embedded where nothing else tells the vectors' length."""

Outcome = Answer | RefusedError | None


class ApiEncoder:
    """Asks an OpenAI-compatible API for vectors; several threads may encode at once and share its pace.

    A text that the API refuses, or gives zeros for, fails alone, by ``Encoding.errors``; texts that the budget does
    not reach are ``Encoding.unasked``.
    """

    device: Final = "api"
    dtype: Final = "float32"

    def __init__(
        self,
        model: Model,
        *,
        dim: int | None = None,
        budget: Budget | None = None,
        stopped: Stopped = lambda: False,
    ) -> None:
        """Makes the client; nothing is sent.

        Args:
            model: ``openai:NAME``.
            dim: length that the vectors must have, None takes the first answer's.
            budget: of the run, where it is shared; None keeps one of its own.
            stopped: whether the run is to stop: texts that were not sent by then are ``unasked``.
        """
        name, api = model.api_name, model.api
        self.what, self._prompt = f"model {name} at {api.host}", model.prompt or ""
        self._inputs, self._tokens = api.request_inputs, api.request_tokens
        self._counts = _counts(model)
        self._meter = Meter(price_of(model))
        self._caller = Caller(
            name,
            api,
            budget=budget or RequestBudget(limits_of(model)),
            meter=self._meter,
            dimensions=model.truncate_dim,
            dim=dim,
            stopped=stopped,
        )
        self._probing = threading.Lock()
        self._loop = LoopThread("api")
        self.close = weakref.finalize(self, self._loop.close, self._caller.close)
        """Closes the connections and ends the thread; happens by itself once the encoder is forgotten."""

    @property
    def dim(self) -> int:
        """Length of the vectors; where nobody told it, one word is embedded to see.

        Raises:
            EncodeError, ConfigError: the API gives no vector, or the budget allows no request.
        """
        with self._probing:
            if self._caller.dimension.value is None:
                self._probe()
        assert self._caller.dimension.value is not None  # noqa: S101
        return self._caller.dimension.value

    @property
    def max_tokens(self) -> int | None:
        """Length in tokens that texts are cut to; None where the API is left to refuse what is too long."""
        return self._counts.max_tokens

    @property
    def usage(self) -> Usage:
        """What has been asked so far; safe in any thread."""
        return self._meter.usage()

    def encode(self, texts: list[str], most_tokens: int = MOST_TOKENS) -> Encoding:
        """Gets float32 vectors [n, dim]; ``most_tokens`` is for a device's memory, and there is none here.

        Raises:
            ConfigError: key, model, address or dimension are not right.
            EncodeError: the API kept failing, or putting off.
            SharedFaultError: it refuses each of many texts alone.
        """
        ready = self._counts.prepare([self._prompt + text for text in texts] if self._prompt else texts)
        parts = list(requests(ready.sent, self._inputs, self._tokens))
        result = _Result(ready)
        for part, outcome in self._loop.run(self._all(ready, parts)):
            self._take(result, ready, part, outcome)
        return result.encoding(self._caller.dimension.value or 0, count=not self._counts.exact)

    def encode_query(self, text: str) -> npt.NDArray[np.float32]:
        """Gets the float32 vector [dim] of a search query, with the same prompt as the rows have.

        Raises:
            ConfigError: the API refuses the text, or as ``encode``.
        """
        found = self.encode([text])
        if found.errors:
            raise ConfigError(f"{self.what} gives no vector for this text: {found.errors[0]}")
        if found.unasked is not None:
            raise ConfigError("--max-requests or --max-cost allow no request: raise them, or leave them out")
        vector: npt.NDArray[np.float32] = found.vectors[0]
        return vector

    def _probe(self) -> None:
        self.encode_query(PROBE)

    async def _all(self, ready: Prepared, parts: list[slice]) -> list[tuple[slice, Outcome]]:
        """Every request's outcome; the first error that is nobody's single fault ends all others."""
        tasks = [asyncio.create_task(self._one(ready, part)) for part in parts]
        try:
            return [one for several in await asyncio.gather(*tasks) for one in several]
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, ready: Prepared, part: slice) -> list[tuple[slice, Outcome]]:
        """Asks for a part whole, or, where the budget does not reach that far, for its halves."""
        try:
            return [(part, await self._ask(ready, part, splits=part.stop - part.start > 1))]
        except TooDearError:
            middle = (part.start + part.stop) // 2
            first = await self._one(ready, slice(part.start, middle))
            return first + await self._one(ready, slice(middle, part.stop))

    async def _ask(self, ready: Prepared, part: slice, *, splits: bool) -> Outcome:
        texts = ready.texts[part]
        try:
            answer = await self._caller.ask(texts, int(ready.sent[part].sum()), splits=splits)
        except RefusedError as refusal:
            return refusal
        if answer is not None and answer.tokens is not None:
            self._counts.learn(texts, answer.tokens)
        return answer

    def _take(self, result: _Result, ready: Prepared, part: slice, outcome: Outcome) -> None:
        """Notes a request's outcome; one that was refused is halved until the texts at fault stand alone."""
        if not isinstance(outcome, RefusedError):
            result.fill(part, outcome)
            return
        n, first = part.stop - part.start, outcome

        def attempt(some: slice) -> Answer | None:
            if some == slice(0, n):
                raise first
            here = slice(part.start + some.start, part.start + some.stop)
            again = self._loop.run(self._ask(ready, here, splits=False))
            if isinstance(again, RefusedError):
                raise again
            return again

        for some, found in isolate(n, attempt, lambda error: isinstance(error, RefusedError)):
            rows = slice(part.start + some.start, part.start + some.stop)
            if isinstance(found, Exception):
                result.errors[rows.start] = self._explained(found, ready, rows.start)
            else:
                result.fill(rows, found)

    def _explained(self, refusal: Exception, ready: Prepared, row: int) -> str:
        kind = "" if self._counts.exact else "about "
        return f"the API refuses this text of {kind}{int(ready.sent[row]):,} tokens: {refusal}"


class _Result:
    """Gathers what became of ``n`` texts."""

    def __init__(self, ready: Prepared) -> None:
        self._ready = ready
        self._parts: list[tuple[slice, Answer]] = []
        self._tokens = ready.tokens.copy()
        self._unasked = np.zeros(len(ready.texts), np.bool_)
        self.errors: dict[int, str] = {}

    def fill(self, rows: slice, answer: Answer | None) -> None:
        """Takes an answer over, or notes that the budget did not allow the question."""
        if answer is None:
            self._unasked[rows] = True
            return
        self._parts.append((rows, answer))
        zero = np.flatnonzero(~answer.vectors.any(axis=1))
        self.errors |= {rows.start + int(row): "the API gives this text a vector of zeros" for row in zero}
        if answer.tokens is not None:
            self._tokens[rows] = shares(answer.tokens, self._ready.sent[rows])

    def encoding(self, dim: int, *, count: bool) -> Encoding:
        """The whole; with ``count`` the tokens are what the API counted, shared out by the estimate of each text."""
        vectors = np.zeros((len(self._ready.texts), dim), np.float32)
        for rows, answer in self._parts:
            vectors[rows] = answer.vectors
        return Encoding(
            vectors=vectors,
            n_tokens=self._tokens if count else self._ready.tokens,
            truncated=self._ready.truncated,
            errors=self.errors,
            unasked=self._unasked if self._unasked.any() else None,
        )


def shares(total: int, weights: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Splits a count by weights into whole numbers that add up to it."""
    until = np.cumsum(weights, dtype=np.int64) * total // max(1, int(weights.sum(dtype=np.int64)))
    return np.diff(until, prepend=0).astype(np.int32)


def _counts(model: Model) -> Estimate | Exact:
    if model.api.tokenizer is None:
        if model.max_tokens is not None:
            raise ConfigError(
                f"--max-tokens is {model.max_tokens} but nothing here knows the tokens of {model.name}: give the "
                "API's tokenizer by --tokenizer, or leave --max-tokens out"
            )
        return Estimate()
    return Exact(locate_model(Model(name=model.api.tokenizer)), model.max_tokens)
