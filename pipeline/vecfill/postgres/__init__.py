"""PostgreSQL: sessions, the introspected target, the SQL text, the embedded server."""
