"""A Postgres server: connections, composed SQL, and the objects of itkit's on it.

Read in this order: ``driver`` (psycopg or psycopg2) and ``sql`` (quoting), ``server``,
``stand_in`` (Postgres instead of SQLite), ``databases``, ``locks``, ``places`` (the registry of
our schemas and databases), ``roles``, ``policies``, ``catalog_version`` and ``outside`` (changes in
a database), ``sessions`` (who has opened them).
"""
