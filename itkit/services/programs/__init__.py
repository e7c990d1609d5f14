"""The programs of the servers: where they are installed, and how each is started.

Read in this order: ``binaries`` and ``installation`` (an installed Postgres or Redis),
``postgres_server`` and ``valkey_server``.
"""
