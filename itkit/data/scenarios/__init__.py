"""Scenarios: sets of rows that are made once and then restored.

Read in this order: ``scenarios`` (the functions), ``world``, ``player``, ``snapshots``.
"""
