"""A Postgres server: connections to it, SQL that is put together, and what is there.

Read in this order: ``driver`` (psycopg or psycopg2) and ``sql`` (quoting), ``server``,
``stand_in`` (Postgres in the place of SQLite), ``databases``, ``locks``, ``places`` (the registry
of what is ours), ``roles``, ``policies``, ``catalog_version`` and ``outside`` (what has changed in
a database), ``sessions`` (who has opened which).
"""
