"""Ids, seeds and addresses that every other part shares; nothing here knows Django's databases.

Read in this order: ``names`` (the ids of runs, workers and tests, and what is ours by name),
``text`` (parts of messages), ``processes`` (whether one is there, and how to end with it), ``urls``
(addresses of servers), ``handshake`` (what a process finds in its environment), ``seed`` (where
random values come from), ``caches`` (what a process remembers), ``sqltext`` (the one reader of
SQL), ``wrapping``, ``instrumentation`` (which functions and branches were run), ``benchmarking``
(how long something takes).
"""
