"""Ids, seeds and addresses, which all other parts share; nothing here uses Django's databases.

Read in this order: ``names`` (the ids of runs, workers and tests, and the names of itkit's
objects), ``options`` (the command-line options of both doors), ``text`` (parts of messages),
``processes`` (other processes), ``urls`` (addresses of servers), ``handshake`` (the environment
variables of child processes), ``seed`` (the source of random values), ``caches`` (caches in the
process), ``sqltext`` (the one reader of SQL), ``wrapping``, ``instrumentation`` (which functions
and branches were run), ``benchmarking`` (how long something takes).
"""
