"""What goes with a column by its number, and the statements that take each such object away and make it again. Pure.

Made again by the same words after the columns have changed names, an object uses the column that has the name then.
"""

from __future__ import annotations

OBJECTS = """
SELECT DISTINCT o.type, d.objid, o.identity
FROM pg_catalog.pg_depend AS d
CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) AS o
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ANY ($1::pg_catalog.oid[])
  AND a.attname = $2::pg_catalog.text
  AND d.classid <> 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'n' AND o.type <> 'table constraint'
  AND NOT (o.type = 'trigger' AND EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.oid = d.objid
    AND (t.tgparentid <> 0 OR t.tgname::pg_catalog.text ~ '^vecfill_[0-9]+_(insert|edit|open|delete|truncate)$')))
  AND NOT (o.type = 'default value' AND EXISTS (
    SELECT FROM pg_catalog.pg_attrdef AS f WHERE f.oid = d.objid AND f.adrelid = a.attrelid AND f.adnum = a.attnum))
ORDER BY 1, 3
"""
"""Type, oid and name of the objects, but for indexes, constraints and statistics, which go with the column when it is
dropped, and for what tracking has made."""

_RULE = """
SELECT CASE v.relkind WHEN 'v' THEN CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = v.oid)
    OR EXISTS (SELECT FROM pg_catalog.pg_rewrite AS s WHERE s.ev_class = v.oid AND s.oid <> r.oid)
    THEN 'view with triggers or rules' ELSE 'view' END WHEN 'm' THEN 'materialized view' ELSE 'rule' END,
  CASE WHEN v.relkind IN ('v', 'm') THEN v.oid::pg_catalog.regclass::pg_catalog.text || COALESCE(' (' || (
      SELECT pg_catalog.string_agg(s.name, ', ' ORDER BY s.name) FROM (
        SELECT 'trigger ' || t.tgname FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = v.oid AND NOT t.tgisinternal
        UNION ALL SELECT 'rule ' || s.rulename FROM pg_catalog.pg_rewrite AS s
        WHERE s.ev_class = v.oid AND s.rulename <> '_RETURN') AS s (name)) || ')', '')
    ELSE pg_catalog.format('%I on %s', r.rulename, v.oid::pg_catalog.regclass) END,
  CASE v.relkind WHEN 'v' THEN pg_catalog.format('DROP VIEW %s', v.oid::pg_catalog.regclass)
    WHEN 'm' THEN pg_catalog.format('DROP MATERIALIZED VIEW %s', v.oid::pg_catalog.regclass)
    ELSE pg_catalog.format('DROP RULE %I ON %s', r.rulename, v.oid::pg_catalog.regclass) END,
  CASE WHEN v.relkind IN ('v', 'm') THEN pg_catalog.array_remove(ARRAY[
      pg_catalog.format('CREATE %s %s%s AS %s', CASE v.relkind WHEN 'v' THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END,
        v.oid::pg_catalog.regclass, ' WITH (' || pg_catalog.array_to_string(v.reloptions, ', ') || ')',
        pg_catalog.rtrim(pg_catalog.pg_get_viewdef(v.oid), '; ')
          || CASE WHEN v.relkind = 'm' AND NOT v.relispopulated THEN ' WITH NO DATA' ELSE '' END),
      CASE WHEN v.relowner::pg_catalog.regrole::pg_catalog.text <> CURRENT_USER::pg_catalog.text
        THEN pg_catalog.format('ALTER TABLE %s OWNER TO %s', v.oid::pg_catalog.regclass,
          v.relowner::pg_catalog.regrole) END,
      pg_catalog.format('COMMENT ON %s %s IS ', CASE v.relkind WHEN 'v' THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END,
        v.oid::pg_catalog.regclass) || pg_catalog.quote_literal(pg_catalog.obj_description(v.oid, 'pg_class'))], NULL)
    ELSE ARRAY[pg_catalog.rtrim(pg_catalog.pg_get_ruledef(r.oid), ';')] END,
  CASE WHEN v.relkind IN ('v', 'm') THEN v.oid END
FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_class AS v ON v.oid = r.ev_class WHERE r.oid = $1::pg_catalog.oid
"""

_POLICY = """
SELECT 'policy', pg_catalog.format('%I on %s', p.polname, p.polrelid::pg_catalog.regclass),
  pg_catalog.format('DROP POLICY %I ON %s', p.polname, p.polrelid::pg_catalog.regclass),
  ARRAY[pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname,
    p.polrelid::pg_catalog.regclass, CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
      ELSE 'ALL' END,
    (SELECT pg_catalog.string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE r::pg_catalog.regrole::pg_catalog.text END, ', ')
      FROM pg_catalog.unnest(p.polroles) AS r),
    ' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
    ' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')')], NULL::pg_catalog.oid
FROM pg_catalog.pg_policy AS p WHERE p.oid = $1::pg_catalog.oid
"""

_GENERATED = """
SELECT 'generated column', pg_catalog.format('%I of %s', a.attname, f.adrelid::pg_catalog.regclass),
  pg_catalog.format('ALTER TABLE %s DROP COLUMN %I', f.adrelid::pg_catalog.regclass, a.attname),
  ARRAY[pg_catalog.format('ALTER TABLE %s ADD COLUMN %I %s GENERATED ALWAYS AS (%s) %s',
    f.adrelid::pg_catalog.regclass, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
    pg_catalog.pg_get_expr(f.adbin, f.adrelid), CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END)],
  NULL::pg_catalog.oid
FROM pg_catalog.pg_attrdef AS f JOIN pg_catalog.pg_attribute AS a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
WHERE f.oid = $1::pg_catalog.oid
"""

_FUNCTION = """
SELECT 'function', $1::pg_catalog.regprocedure::pg_catalog.text,
  pg_catalog.format('DROP ROUTINE %s', $1::pg_catalog.regprocedure),
  ARRAY[pg_catalog.rtrim(pg_catalog.pg_get_functiondef($1), E'\\n')], NULL::pg_catalog.oid
"""

_TRIGGER = """
SELECT 'trigger', pg_catalog.format('%I on %s', t.tgname, t.tgrelid::pg_catalog.regclass),
  pg_catalog.format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::pg_catalog.regclass),
  ARRAY[pg_catalog.pg_get_triggerdef(t.oid)], NULL::pg_catalog.oid
FROM pg_catalog.pg_trigger AS t WHERE t.oid = $1::pg_catalog.oid
"""

_PUBLICATION = """
SELECT 'publication with a column list', pg_catalog.format('%I of %s', p.pubname, r.prrelid::pg_catalog.regclass),
  pg_catalog.format('ALTER PUBLICATION %I DROP TABLE %s', p.pubname, r.prrelid::pg_catalog.regclass),
  ARRAY[pg_catalog.format('ALTER PUBLICATION %I ADD TABLE %s (%s)%s', p.pubname, r.prrelid::pg_catalog.regclass,
    (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
      FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::pg_catalog.int2[])),
    ' WHERE (' || pg_catalog.pg_get_expr(r.prqual, r.prrelid) || ')')], NULL::pg_catalog.oid
FROM pg_catalog.pg_publication_rel AS r JOIN pg_catalog.pg_publication AS p ON p.oid = r.prpubid
WHERE r.oid = $1::pg_catalog.oid
"""

MENDS = {
    "rule": _RULE,
    "policy": _POLICY,
    "default value": _GENERATED,
    "function": _FUNCTION,
    "procedure": _FUNCTION,
    "trigger": _TRIGGER,
    "publication relation": _PUBLICATION,
}
"""Type → kind and name for people, the statement to drop it, those to make it again, and the oid of a view."""

FUNCTIONS = """
SELECT f.oid::pg_catalog.regprocedure::pg_catalog.text
FROM pg_catalog.pg_proc AS f JOIN pg_catalog.pg_language AS l ON l.oid = f.prolang
JOIN pg_catalog.pg_namespace AS n ON n.oid = f.pronamespace
WHERE l.lanname NOT IN ('internal', 'c') AND f.prosqlbody IS NULL
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', $1::pg_catalog.text)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    AND d.objid = f.oid AND d.deptype = 'e')
  AND f.prosrc ~ $2::pg_catalog.text ORDER BY 1
"""
"""The functions outside of schema ``$1`` whose body is a string that matches ``$2``: it names columns when it runs."""

USERS_OF_VIEW = """
SELECT DISTINCT o.type, d.objid, o.identity
FROM pg_catalog.pg_depend AS d
CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) AS o
JOIN pg_catalog.pg_class AS v ON v.oid = $1::pg_catalog.oid
LEFT JOIN pg_catalog.pg_type AS t ON t.oid = v.reltype
WHERE (d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = v.oid
    OR d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.refobjid IN (t.oid, t.typarray))
  AND d.deptype = 'n' AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r
    WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid AND r.ev_class = v.oid)
ORDER BY 1, 3
"""
"""The same columns as ``OBJECTS``, for the objects that use a view or its row type."""

VIEW_EXTRAS = """
WITH v AS (SELECT c.*, c.oid::pg_catalog.regclass AS called FROM pg_catalog.pg_class AS c
  WHERE c.oid = $1::pg_catalog.oid), roles (oid, name) AS (
  SELECT r.oid, pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r UNION ALL SELECT 0, 'PUBLIC')
SELECT s.statement FROM (
  SELECT 1 AS place, pg_catalog.format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', v.called, a.attname,
    pg_catalog.pg_get_expr(d.adbin, d.adrelid)) AS statement
  FROM v JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = v.oid
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = v.oid AND a.attnum = d.adnum
  UNION ALL
  SELECT 2, pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', v.called, a.attname,
    pg_catalog.col_description(v.oid, a.attnum))
  FROM v JOIN pg_catalog.pg_attribute AS a ON a.attrelid = v.oid
  WHERE a.attnum > 0 AND pg_catalog.col_description(v.oid, a.attnum) IS NOT NULL
  UNION ALL  -- what ALTER DEFAULT PRIVILEGES would give to the new view
  SELECT DISTINCT 3, pg_catalog.format('REVOKE ALL ON %s FROM %s', v.called, roles.name)
  FROM v, pg_catalog.pg_default_acl AS g CROSS JOIN LATERAL pg_catalog.aclexplode(g.defaclacl) AS x
  JOIN roles ON roles.oid = x.grantee WHERE g.defaclobjtype = 'r' AND x.grantee <> v.relowner
  UNION ALL
  SELECT 4, pg_catalog.format('GRANT %s ON %s TO %s%s', x.privilege_type, v.called, roles.name,
    CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM v CROSS JOIN LATERAL pg_catalog.aclexplode(v.relacl) AS x JOIN roles ON roles.oid = x.grantee
  WHERE x.grantee <> v.relowner
  UNION ALL
  SELECT 5, pg_catalog.format('GRANT %s (%I) ON %s TO %s%s', x.privilege_type, a.attname, v.called, roles.name,
    CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM v JOIN pg_catalog.pg_attribute AS a ON a.attrelid = v.oid
  CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS x JOIN roles ON roles.oid = x.grantee
  UNION ALL
  SELECT 6, pg_catalog.pg_get_indexdef(i.indexrelid) FROM v JOIN pg_catalog.pg_index AS i ON i.indrelid = v.oid
  UNION ALL
  SELECT 7, pg_catalog.rtrim(pg_catalog.pg_get_ruledef(r.oid), ';')
  FROM v JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = v.oid AND r.rulename <> '_RETURN'
  UNION ALL
  SELECT 8, pg_catalog.pg_get_triggerdef(t.oid)
  FROM v JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = v.oid AND NOT t.tgisinternal) AS s
ORDER BY s.place, s.statement
"""
"""The statements that give a view made again what its definition does not have."""
