"""Connections to servers: which the tests may make, and which are refused.

Read in this order: ``guarding`` (refuses what no fake answers and itkit does not isolate),
``addresses`` (the servers that the settings name), ``ports`` (whose a server on this machine is),
``earlier`` (connections that were open before the tests), ``libpq`` (clients of Postgres that
Django does not make).
"""
