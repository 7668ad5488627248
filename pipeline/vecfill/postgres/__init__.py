"""PostgreSQL: sessions, the introspected target, SQL text, the embedded server."""
