"""Clones a schema by a script, which is made once from the catalogue and verified.

Read in this order: ``clone``, ``dependencies`` (the order), ``statements``, ``tables``,
``options`` and ``grants`` (the script), ``catalogue`` (the comparison).
"""
