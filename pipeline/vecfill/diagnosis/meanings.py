"""Why each finding matters: one text a name. docs/doctor.md explains the same names, which a test compares."""

from __future__ import annotations

MEANINGS = {
    # the server
    "server-version": "Minor releases fix bugs that damage indexes or crash the server.",
    "pgvector-version": "Old pgvector releases can damage HNSW indexes in VACUUM and in parallel builds.",
    "read-only": "A run writes vectors, so it needs a server and a role that accept writes.",
    "timeouts": "A batch that meets a time limit is halved and repeated, which makes a run slow.",
    "pooler": "Behind a transaction pooler a session setting or a prepared statement of one client reaches another.",
    "rollbacks": "Statements that fail leave nothing in the tables; the share of rollbacks is often their only trace.",
    # rights
    "privileges": "A run by this role ends with exit code 2 before it writes.",
    "temporary-tables": "Without temporary tables a run sends batches as arrays, which needs an array type of the key.",
    "row-level-security": "Rows that policies hide from this role are neither counted nor filled.",
    # sessions
    "table-lock": "While another session holds or awaits this lock, nobody can write the table.",
    "old-transaction": "Vacuum cannot remove row versions that an old transaction may still see.",
    # what the application does
    "upsert-without-columns": (
        "PostgreSQL checks NOT NULL before ON CONFLICT: an upsert that leaves out a required column fails for every "
        "row, even for rows that exist."
    ),
    "queue-table": "A table of tasks for this target shows what the application meant to embed.",
    "queue-failing": "A task that fails each time leaves its row without a vector.",
    "queue-stuck": "A task in progress for long belongs to a worker that is gone; nobody takes it again.",
    "queue-without-vector": "A task that counts as done although its row has no vector is never done again.",
    # the table
    "target": "A run ends with exit code 2 before it reads a row.",
    "key": "Rows are found again by a unique key; without one nothing can be written.",
    "column": "The type of the embedding column decides which models fit it and which indexes it can have.",
    "model": "A model of another dimension cannot be written to the column.",
    "child-tables": "vecfill skips tables that inherit from the target and are no partitions.",
    "coverage": "A search cannot find rows without a vector.",
    "newest-vector": "If the newest rows have no vector, whatever filled the column has stopped.",
    # indexes
    "vector-index": "Every write of a vector updates its indexes, by HNSW at 60 to 170 times the cost without.",
    "index-invalid": "A search does not use an INVALID index, but every write maintains it.",
    "index-operator": "A search by an operator that no index serves reads the whole table.",
    "index-waiting": "Searches read every vector until an index that a run has dropped is built again.",
    "index-unused": "An index that no search uses costs each write and serves nobody.",
    # an update
    "update-cost": "The rate of a run is limited by what the server does for each updated row.",
    "update-refused": "A trigger or a rule that keeps or changes vectors makes a run end with exit code 3.",
    "triggers": "Each row that a run writes fires them.",
    "publications": "Each vector is sent to every subscriber.",
    # storage
    "hot-updates": "An update that is not HOT writes into every index of the table and leaves more for vacuum.",
    "dead-rows": "Dead row versions make scans slow and the table big until vacuum removes them.",
    "autovacuum": "Without vacuum a table that is updated grows without end.",
    "statistics": "Without statistics the planner guesses, and searches and surveys may take bad plans.",
    # replication
    "replication-lag": "A run adds WAL, and standbys that are behind fall further behind.",
    "replication-slot": "WAL that a slot retains fills the disk of the primary.",
    # the ledger
    "tracking": "Without tracking a run fills missing vectors, but does not notice texts that change.",
    "tracking-triggers": "Changes that no trigger captures leave outdated vectors behind.",
    "replication-role": "With session_replication_role = replica no ordinary trigger fires, nor those of tracking.",
    "ledger": "A run of a tracked target stops if the ledger does not fit the target or this role.",
    "ledger-rows": "Ledger entries of rows that no longer exist take space and miscount.",
    "change-queue": "Changes that wait are vectors that do not match their texts yet.",
    "failures": "Rows that fail have no vector, or an outdated one.",
    "lease": "One run at a time holds the lease; that of a run that died ends by itself.",
    "last-run": "The outcome of the last run tells whether the schedule works.",
    "unknown-vectors": "Nobody vouches for vectors of unknown origin: their text or model may differ.",
    "several-models": "Distances between vectors of different models mean nothing.",
}
"""Name of a finding → why it matters; in the order of the page."""
