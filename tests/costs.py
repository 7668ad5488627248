"""What our work may cost the server, pinned by tests: a feature that needs more raises the number here, knowingly."""

from __future__ import annotations

TRIPS_OF_A_BLOCK_READ = 2
"""Round trips: start, settings and query; COMMIT."""

TRIPS_OF_A_BATCH = 5
"""Round trips: start and table; COPY; its end; the statement that writes; COMMIT."""

TRIPS_OF_A_BATCH_AS_ARRAYS = 3
"""Round trips where the role may make no temporary table: no COPY and no end of it."""

BUFFERS_BEFORE_THE_FIRST_TEXT = 1_100
"""Bound of the buffers for start-up, catalogue, checks, sample and finding the rows, if a partial index names them.

They are 1,000, and a few more or less by what other sessions changed in the catalogue before.
"""

BUFFERS_OF_A_SWEEP = 2_000
"""Bound of what a sweep adds to that, besides its rows."""

BUFFERS_A_ROW = 40
"""Bound of the buffers for one row that is read and written."""

STATEMENTS_OF_AN_UNREADABLE_ROW = 50
"""Bound of the statements that find one unreadable row among 20,000 on 200 pages: two for each halving, some to try."""

BUFFERS_OF_A_TRACKED_RUN = 2_500
"""Bound for a run of a tracked target that finds nothing to do, all told."""

BUFFERS_A_QUEUED_CHANGE = 15
"""Bound of the buffers for one entry of the queue before the first text is read: its row and origin are looked up."""

BUFFERS_A_CHANGE = 200
"""Bound of the buffers for one changed row: from its place in the queue until it is out of it."""

BUFFERS_OF_A_LOOK = 20
"""Bound of the buffers for one look of a watch that finds nothing; it looks twice a second."""
