"""Readers of the timeline: what a test asks of it, and what fails a test afterwards.

Read in this order: ``observe`` (the queries, commands and calls of a block), ``assertions`` (the
order of what happened, and how a timeline is printed), ``swallowed`` (errors that the application
has swallowed), ``effects`` (what happened while a transaction was open), ``budgets`` (blocks that
send no more than before), ``canaries`` (values of bystanders, and secrets, where they turn up).
"""
