"""An embedding API as an ``Encoder``: sends texts in parallel requests and puts every vector at its text."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from vecfill.bisection import isolate
from vecfill.config.model import Model
from vecfill.encode.api.answer import Answer
from vecfill.encode.api.budget import Budget
from vecfill.encode.api.event_loop import LoopThread
from vecfill.encode.api.http_errors import RefusedError
from vecfill.encode.api.requester import PROBE, Requester, SplitRequestError
from vecfill.encode.api.terms import shared_budget
from vecfill.encode.api.token_counts import Estimate, Exact, Prepared, split_into_requests
from vecfill.encode.api.usage import Usage
from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.device.learned_batches import MAX_BATCH_TOKENS, LearnedBatches
from vecfill.encode.encoding import Encoding
from vecfill.encode.model.model_location import locate_model
from vecfill.errors import ConfigError
from vecfill.interruptible import Stopped

Outcome = Answer | Exception | None


class ApiEncoder:
    """Gets vectors from an OpenAI-compatible API. Several threads may encode at once and share its pace.

    A text that the API refuses fails alone (``Encoding.errors``); texts that the budget does not
    cover are ``Encoding.unasked``.

    Attributes:
        budget: limits and counts the requests.
    """

    device: Final = "api"
    dtype: Final = "float32"
    way: Final = "api"

    def __init__(
        self,
        model: Model,
        *,
        dim: int | None = None,
        budget: Budget | None = None,
        stopped: Stopped = lambda: False,
    ) -> None:
        """Makes the client; sends nothing.

        Args:
            model: ``openai:NAME``.
            dim: length that the vectors must have; None takes the first answer's.
            budget: of the run; None makes one for this encoder.
            stopped: whether the run is to stop: texts not sent by then are ``unasked``.
        """
        self._prompt, self._counts = model.prompt or "", _counts(model)
        self._inputs, self._tokens = model.api.request_inputs, model.api.request_tokens
        found = budget or shared_budget(model)
        assert found is not None  # noqa: S101
        self.budget: Budget = found
        self.learned = LearnedBatches()
        self._requester = Requester(model, dim, self.budget, stopped)
        self._sizes = self._requester.sizes
        self._probing = threading.Lock()
        self._loop = LoopThread("api")
        self.close = weakref.finalize(self, self._loop.close, self._requester.close)
        """Closes the connections and ends the thread; the garbage collector does it too."""

    @property
    def dim(self) -> int:
        """Length of the vectors; if unknown, embeds one word to find out.

        Raises:
            EncodeError, ConfigError: the API gives no vector, or the budget allows no request.
        """
        with self._probing:
            if self._requester.dimension.value is None:
                self.encode_query(PROBE)
        assert self._requester.dimension.value is not None  # noqa: S101
        return self._requester.dimension.value

    @property
    def max_tokens(self) -> int | None:
        """Length in tokens that texts are cut to; None if the API is to refuse longer texts."""
        return self._counts.max_tokens

    @property
    def usage(self) -> Usage:
        """What has been sent so far; safe in any thread."""
        return Usage.of(list(self._requester.sent))

    def encode(
        self, texts: list[str], max_batch_tokens: int = MAX_BATCH_TOKENS, advance: Advance = no_progress
    ) -> Encoding:
        """Gets float32 vectors [n, dim]; ignores ``max_batch_tokens``, which is for a device's memory.

        Raises:
            ConfigError: key, model, address or dimension are wrong.
            EncodeError: the API kept failing or throttling.
            SharedFaultError: it refuses many texts, each individually.
        """
        return self._encode(texts, is_query=False, advance=advance)

    def _encode(self, texts: list[str], *, is_query: bool, advance: Advance = no_progress) -> Encoding:
        ready = self._counts.prepare([self._prompt + text for text in texts] if self._prompt else texts)
        ready = replace(ready, is_query=is_query, advance=advance)
        parts = list(split_into_requests(ready.sent, self._inputs, self._tokens))
        results = self._loop.run(self._all(ready, parts))
        return self._assembled(ready, [one for result in results for one in self._isolated(ready, *result)])

    def encode_query(self, text: str) -> npt.NDArray[np.float32]:
        """Gets the float32 vector [dim] of a search query, with the same prompt as the rows and the fields for queries.

        Raises:
            ConfigError: the API refuses the text; or as ``encode``.
        """
        found = self._encode([text], is_query=True)
        if found.errors:
            raise ConfigError(f"{self._requester.what} gives no vector for this text: {found.errors[0].message}")
        if found.unasked.any():
            raise ConfigError("--max-requests or --max-cost allow no request: raise them, or leave them out")
        vector: npt.NDArray[np.float32] = found.vectors[0]
        return vector

    async def _all(self, ready: Prepared, parts: list[slice]) -> list[tuple[slice, Outcome]]:
        """Returns the outcome of every request; the first error that is not a single text's cancels all others."""
        tasks = [asyncio.create_task(self._one(ready, part)) for part in parts]
        try:
            return [one for several in await asyncio.gather(*tasks) for one in several]
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, ready: Prepared, part: slice) -> list[tuple[slice, Outcome]]:
        """Sends a part as one request, or in smaller ones if the budget does not cover it or the API takes fewer."""
        try:
            outcome = await self._request(ready, part, can_split=part.stop - part.start > 1)
        except SplitRequestError:
            if not self._sizes.fit(ready.bytes[part]):
                async with self._sizes.searching:  # until the request that searches has found the limit
                    pass
                return await self._all(ready, self._parts(ready, part))
            middle = (part.start + part.stop) // 2
            first = await self._one(ready, slice(part.start, middle))
            return first + await self._one(ready, slice(middle, part.stop))
        if isinstance(outcome, RefusedError) and self._sizes.refuse(ready.bytes[part]):
            return await self._smaller(ready, part, outcome)
        return [(part, outcome)]

    async def _smaller(self, ready: Prepared, part: slice, refusal: RefusedError) -> list[tuple[slice, Outcome]]:
        """Sends a refused part in smaller requests, one after the other until the API's limit is found."""
        found, rest = list[tuple[slice, Outcome]](), part
        doubtful = rest.start  # end of the smallest refused request: until its texts are accepted, one may be at fault
        async with self._sizes.searching:
            while rest.start < rest.stop and (rest.start < doubtful or not self._sizes.found):
                some = slice(rest.start, rest.start + self._sizes.split(ready.bytes[rest])[0].stop)
                outcome = await self._request(ready, some, can_split=False)
                if isinstance(outcome, RefusedError) and self._sizes.refuse(ready.bytes[some]):
                    doubtful = some.stop
                    continue
                found.append((some, outcome))
                rest = slice(some.stop, rest.stop)
                if not isinstance(outcome, Answer):
                    self._sizes.forget()
                    break
            else:
                self._sizes.confirm()
        if not found and self._sizes.fit(ready.bytes[part]):  # another request has disproved the limit
            return [(part, refusal)]
        return found + await self._all(ready, self._parts(ready, rest))

    def _parts(self, ready: Prepared, part: slice) -> list[slice]:
        """Splits a part into requests that the API accepts, as far as known."""
        parts = self._sizes.split(ready.bytes[part])
        return [slice(part.start + one.start, part.start + one.stop) for one in parts]

    async def _request(self, ready: Prepared, part: slice, *, can_split: bool) -> Outcome:
        texts = ready.texts[part]
        try:
            answer = await self._requester.request(
                texts, int(ready.sent[part].sum()), can_split=can_split, is_query=ready.is_query
            )
        except RefusedError as refusal:
            return refusal
        if answer is not None:
            ready.advance(len(texts) / len(ready.texts))
            self._sizes.accept(ready.bytes[part])
            if answer.tokens is not None:
                self._counts.learn(texts, answer.tokens)
        return answer

    def _isolated(self, ready: Prepared, part: slice, outcome: Outcome) -> Iterator[tuple[slice, Outcome]]:
        """Yields a request's outcome; halves a refused request until each text at fault stands alone."""

        def attempt(some: slice) -> Answer | None:
            rows = slice(part.start + some.start, part.start + some.stop)
            found = outcome if rows == part else self._loop.run(self._request(ready, rows, can_split=False))
            if isinstance(found, Exception):
                raise found
            return found

        for some, found in isolate(part.stop - part.start, attempt, lambda error: isinstance(error, RefusedError)):
            yield slice(part.start + some.start, part.start + some.stop), found

    def _assembled(self, ready: Prepared, outcomes: list[tuple[slice, Outcome]]) -> Encoding:
        """Builds the whole from its parts; without a tokenizer the estimates are scaled to the API's token count."""
        vectors = np.zeros((len(ready.texts), self._requester.dimension.value or 0), np.float32)
        encoding = Encoding.of(vectors, n_tokens=ready.tokens.copy(), truncated=ready.truncated)
        for rows, outcome in outcomes:
            if outcome is None:
                encoding.unasked[rows] = True
            elif isinstance(outcome, Exception):
                tokens = f"{'' if self._counts.exact else 'about '}{ready.sent[rows.start]:,}"
                encoding.fail(rows.start, "row", f"the API refuses this text of {tokens} tokens: {outcome}")
                self._sizes.forget()
            else:
                vectors[rows] = outcome.vectors
                if outcome.tokens is not None and not self._counts.exact:
                    encoding.n_tokens[rows] = shares(outcome.tokens, ready.sent[rows])
        return encoding


def shares(total: int, weights: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Splits a count in proportion to weights, into whole numbers that add up to it."""
    until = np.cumsum(weights, dtype=np.int64) * total // max(1, int(weights.sum(dtype=np.int64)))
    return np.diff(until, prepend=0).astype(np.int32)


def _counts(model: Model) -> Estimate | Exact:
    if model.api.tokenizer is None:
        if model.max_tokens is not None:
            raise ConfigError(
                f"--max-tokens is {model.max_tokens} but nothing here knows the tokens of {model.name}: give the "
                "API's tokenizer as --tokenizer, or leave --max-tokens out"
            )
        return Estimate()
    return Exact(locate_model(Model(name=model.api.tokenizer)), model.max_tokens)
