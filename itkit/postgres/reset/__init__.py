"""What tests have committed is taken back.

Read in this order: ``reset``, ``probe`` (whether anything can have changed), ``plan`` with
``items`` and ``contents`` (what has to come back), ``initial_rows`` (the rows of migrations),
``levels`` (rows that several tests share), ``structure`` (tables that tests have altered),
``differences`` (rows that a test has changed, for its report).
"""
