"""Scenarios: worlds of rows that are made once and restored.

Read in this order: ``scenarios`` (the functions), ``world``, ``player``, ``snapshots``.
"""
