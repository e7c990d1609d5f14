"""Many rows at once: instances are planned, and written by table.

Read in this order: ``plan``, ``builder`` (the steps of factory_boy), ``recycled``, ``obstacles``
(what keeps a row from being written in bulk), ``keys``, ``insertion``, ``explanation``.
"""
