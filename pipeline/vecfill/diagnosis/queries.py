"""The queries of the checks over the catalogue and the statistics views; those over the user's tables are beside."""

from __future__ import annotations

from vecfill.postgres.update_effects import UPDATE_TRIGGER

PGVECTOR_AVAILABLE = """
SELECT e.default_version::pg_catalog.text AS version FROM pg_catalog.pg_available_extensions AS e
WHERE e.name = 'vector'
"""

BACKEND = "SELECT pg_catalog.pg_backend_pid() AS pid"

ROLLBACKS = """
SELECT d.xact_commit AS committed, d.xact_rollback AS rolled_back FROM pg_catalog.pg_stat_database AS d
WHERE d.datname = pg_catalog.current_database()
"""

REPLICATION_ROLE = """
SELECT COALESCE(pg_catalog.quote_ident(r.rolname::pg_catalog.text), 'ALL') AS role,
  pg_catalog.quote_ident(d.datname::pg_catalog.text) AS database,
  pg_catalog.split_part(c.setting, '=', 2) AS value
FROM pg_catalog.pg_db_role_setting AS s
CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c (setting)
LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
LEFT JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase
WHERE c.setting LIKE 'session_replication_role=%' AND c.setting <> 'session_replication_role=origin'
  AND (s.setdatabase = 0 OR d.datname = pg_catalog.current_database())
UNION ALL
SELECT NULL, NULL, g.setting FROM pg_catalog.pg_settings AS g
WHERE g.name = 'session_replication_role' AND g.setting <> 'origin' AND g.source = 'configuration file'
"""

SEES_SESSIONS = "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees"

IDENTITY = """
SELECT c.oid, n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS name
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass($1)::pg_catalog.oid
"""

VECTOR_COLUMNS = """
SELECT pg_catalog.quote_ident(a.attname::pg_catalog.text) AS name,
  pg_catalog.format_type(a.atttypid, a.atttypmod) AS type
FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped
  AND t.typname IN ('vector', 'halfvec', '_float4', '_float8')
ORDER BY a.attnum
"""

REQUIRED_COLUMNS = """
SELECT a.attname::pg_catalog.text AS name FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef
  AND a.attidentity = '' AND a.attgenerated = ''
ORDER BY a.attnum
"""

TIME_COLUMNS = """
SELECT a.attname::pg_catalog.text AS name FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = $1::pg_catalog.oid AND a.attnum > 0 AND NOT a.attisdropped
  AND a.atttypid IN ('pg_catalog.timestamptz'::pg_catalog.regtype, 'pg_catalog.timestamp'::pg_catalog.regtype)
"""

COLUMN_INDEXES = """
SELECT i.indrelid AS table, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
  m.amname::pg_catalog.text AS method, c.relname::pg_catalog.text AS bare, c.relkind::pg_catalog.text AS kind,
  i.indisvalid AS valid,
  pg_catalog.pg_relation_size(c.oid) AS bytes,
  pg_catalog.pg_get_indexdef(c.oid) AS definition, o.opcname::pg_catalog.text AS opclass,
  COALESCE(s.idx_scan, 0) AS scans, pg_catalog.age(c.xmin) AS age
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[0]
LEFT JOIN pg_catalog.pg_stat_all_indexes AS s ON s.indexrelid = i.indexrelid
WHERE i.indrelid = ANY ($1::pg_catalog.oid[])
ORDER BY n.nspname, c.relname
"""

HAS_STATEMENTS = """
SELECT pg_catalog.quote_ident(n.nspname::pg_catalog.text) AS schema FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'
"""

STATEMENTS = """
SELECT s.query, s.calls FROM {schema}.pg_stat_statements AS s
WHERE s.dbid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
  AND pg_catalog.strpos(pg_catalog.lower(s.query), pg_catalog.lower($1)) > 0 AND s.query ~* $2::pg_catalog.text
ORDER BY s.calls DESC LIMIT $3::pg_catalog.int8
"""

TRIGGERS_BEFORE_INSERT = """
SELECT DISTINCT g.tgname::pg_catalog.text AS name FROM pg_catalog.pg_trigger AS g
WHERE g.tgrelid = ANY ($1::pg_catalog.oid[]) AND g.tgtype & 7 = 7 AND g.tgenabled <> 'D' ORDER BY 1
"""

TRIGGERS_ON_UPDATE = f"""
SELECT DISTINCT g.tgname::pg_catalog.text AS name,
  pg_catalog.format('%I.%I', n.nspname, p.proname) AS function, g.tgenabled::pg_catalog.text AS enabled
FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE g.tgrelid = ANY ($1::pg_catalog.oid[]) AND {UPDATE_TRIGGER}
ORDER BY 1
"""  # noqa: S608 -- formatted from a constant

INDEXED_COLUMNS = """
SELECT DISTINCT a.attname::pg_catalog.text AS name FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = ANY ($1::pg_catalog.oid[]) AND a.attname = ANY ($2::pg_catalog.text[])
"""

STORAGE = """
SELECT pg_catalog.format('%I.%I', s.schemaname, s.relname) AS name, s.n_live_tup AS live, s.n_dead_tup AS dead,
  s.n_tup_upd AS updated, s.n_tup_hot_upd AS hot, s.n_tup_ins AS inserted,
  GREATEST(s.last_vacuum, s.last_autovacuum) AS vacuumed,
  GREATEST(s.last_analyze, s.last_autoanalyze) AS analyzed,
  COALESCE(c.reloptions, '{}') AS options, c.relpages AS pages
FROM pg_catalog.pg_stat_all_tables AS s JOIN pg_catalog.pg_class AS c ON c.oid = s.relid
WHERE s.relid = ANY ($1::pg_catalog.oid[]) AND c.relkind = 'r' ORDER BY 1
"""

STRONG_LOCKS = """
SELECT l.pid, l.mode, l.granted, a.usename::pg_catalog.text AS role, a.application_name AS application, a.state,
  pg_catalog.regexp_replace(pg_catalog.left(a.query, 200), '\\s+', ' ', 'g') AS query,
  EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.float8 AS seconds,
  (SELECT p.gid FROM pg_catalog.pg_prepared_xacts AS p
    WHERE l.virtualtransaction = '-1/' || p.transaction::pg_catalog.text) AS prepared,
  (SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks AS w WHERE w.locktype = 'relation' AND NOT w.granted
    AND w.relation = l.relation AND w.database = l.database AND w.pid IS DISTINCT FROM l.pid) AS waiting,
  CASE WHEN l.granted THEN '{}' ELSE pg_catalog.pg_blocking_pids(l.pid) END AS blockers
FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.relation = ANY ($1::pg_catalog.oid[])
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
  AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
ORDER BY l.granted DESC, seconds DESC NULLS LAST
"""

TRANSACTIONS = """
SELECT a.pid, a.usename::pg_catalog.text AS role, a.application_name AS application, a.state, NULL AS prepared,
  EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.float8 AS seconds,
  pg_catalog.age(a.backend_xmin) AS xmin_age, pg_catalog.left(a.query, 100) AS query,
  EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE l.pid = a.pid AND l.relation = ANY ($1::pg_catalog.oid[])) AS ours
FROM pg_catalog.pg_stat_activity AS a
WHERE a.xact_start IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type = 'client backend'
  AND a.datname = pg_catalog.current_database()
UNION ALL
SELECT NULL, p.owner::pg_catalog.text, '', 'prepared', p.gid,
  EXTRACT(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::pg_catalog.float8, pg_catalog.age(p.transaction),
  '', true
FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = pg_catalog.current_database()
ORDER BY seconds DESC
"""

SLOTS = """
SELECT s.slot_name::pg_catalog.text AS name, s.active, s.wal_status, pg_catalog.age(s.xmin) AS xmin_age,
  pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::pg_catalog.int8 AS kept
FROM pg_catalog.pg_replication_slots AS s ORDER BY 4 DESC NULLS LAST
"""

CANDIDATE_QUEUES = """
SELECT c.oid, n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS name,
  (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attnum) FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
  (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text) FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN (
      'pg_catalog.timestamptz'::pg_catalog.regtype, 'pg_catalog.timestamp'::pg_catalog.regtype)) AS times,
  (SELECT ARRAY[a.attname, b.attname]::pg_catalog.text[] FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    JOIN pg_catalog.pg_attribute AS b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
    WHERE k.contype = 'f' AND k.conrelid = c.oid AND k.confrelid = $1::pg_catalog.oid
      AND pg_catalog.cardinality(k.conkey) = 1 ORDER BY k.oid LIMIT 1) AS refers,
  (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text) FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
    WHERE k.contype = 'f' AND k.conrelid = c.oid AND k.confrelid <> $1::pg_catalog.oid) AS elsewhere,
  EXISTS (SELECT FROM pg_catalog.pg_class AS o, pg_catalog.pg_class AS t WHERE t.oid = $1::pg_catalog.oid
    AND o.oid <> t.oid AND o.relname = t.relname AND o.relnamespace = c.relnamespace) AS of_namesake
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.oid <> $1::pg_catalog.oid
  AND n.nspname <> $2::pg_catalog.name AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND NOT a.attisdropped
    AND a.attname ~ '^(.*_)?(status|state)$')
ORDER BY 2, 3
"""

FUNCTIONS = """
SELECT pg_catalog.format('%I.%I', n.nspname, p.proname) AS name, p.prosrc AS source
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.prosrc ~* 'insert\\s+into' AND pg_catalog.strpos(pg_catalog.lower(p.prosrc), pg_catalog.lower($1)) > 0
  AND n.nspname <> $2::pg_catalog.name AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1
"""

HAS_CRON = """
SELECT pg_catalog.to_regclass('cron.job') IS NOT NULL AS jobs,
  pg_catalog.to_regclass('cron.job_run_details') IS NOT NULL AS runs
"""
CRON_JOBS = "SELECT 'the job of pg_cron ' || j.jobid AS name, j.command AS source FROM cron.job AS j"
CRON_ERRORS = """
SELECT pg_catalog.left(d.return_message, 300) AS error, pg_catalog.count(*) AS entries FROM cron.job_run_details AS d
WHERE d.status = 'failed'
  AND pg_catalog.strpos(pg_catalog.lower(d.command || d.return_message), pg_catalog.lower($1)) > 0
GROUP BY 1 ORDER BY 2 DESC LIMIT 5
"""

TABLE_NAMES = """
SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY ($1::pg_catalog.oid[])
"""
