"""Reads a real class or function.

Read in this order: ``members`` (what is faked), ``signatures`` (how it is called), ``returned``
(what it can return), ``drift`` (how a hand-written fake differs).
"""
