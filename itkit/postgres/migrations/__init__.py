"""The project's migrations: what they need from a server, what they write to, and how they run.

Read in this order: ``operations``, ``requirements`` (what a server lacks), ``extensions``,
``escapes`` (SQL that reaches beyond a schema), ``watch`` (migrations that write elsewhere),
``inspection`` (what a schema would not isolate), ``progress``, ``explain``.
"""
