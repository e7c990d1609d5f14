"""Redis for one worker: under a prefix, or on a server of its own.

Read in this order: ``interface`` (what the environment needs of either), ``installed``,
``isolation`` (by a prefix), ``dedicated`` (by a server), ``joined`` (a process that a test has
started), ``levels`` (keys that several tests share).
"""
