"""Which of the tests before one make it fail: ``--itkit-bisect``.

Read in this order: ``orders`` (which tests have run in a process), ``bisection`` (runs parts of
them).
"""
