"""Readers of the timeline: assertions of tests, and checks that fail a test afterwards.

Read in this order: ``observe`` (the queries, commands and calls of a block), ``assertions`` (the
order of crossings, and the printed timeline), ``swallowed`` (errors that the application has
swallowed), ``effects`` (crossings while a transaction was open), ``budgets`` (limits for blocks),
``allowed`` (the names by which a test allows something), ``canaries`` (values of bystanders, and
secrets, where they turn up).
"""
