"""Which rows tests have made, and their removal.

Read in this order: ``rows`` (those that a manager knows), ``ledger`` (every row that is inserted),
``references`` and ``deletion``, ``report``, ``leaks`` (rows that nobody has removed).
"""
