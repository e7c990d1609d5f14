"""Takes back what tests have committed.

Read in this order: ``reset``, ``probe`` (whether anything can have changed), ``plan`` with
``items`` and ``contents`` (what is restored), ``initial_rows`` (the rows of migrations), ``levels``
(rows that several tests share), ``structure`` (tables that tests have altered), ``differences``
(rows that a test has changed, for its report).
"""
