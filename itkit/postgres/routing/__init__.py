"""Django's connections, routed to the place of a worker.

Read in this order: ``routing``, ``routed`` (what hangs on Django's classes, and dbshell),
``creation`` (test databases, as runners ask for them), ``kept`` (sessions that the next test gets).
"""
