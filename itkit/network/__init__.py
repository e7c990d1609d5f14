"""Decides which connections tests may make, and refuses the others.

Read in this order: ``guarding`` (refuses what no fake answers and itkit does not isolate),
``addresses`` (the servers that the settings name), ``ports`` (who has started a server on this
machine), ``earlier`` (connections that were open before the tests), ``libpq`` (clients of Postgres
outside of Django).
"""
