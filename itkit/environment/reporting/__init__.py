"""What a run reports about its tests.

Read in this order: ``messages`` (what a test has left or done), ``notes`` (at the end of the run),
``pages`` (``--itkit-report``), ``coverage`` (``--itkit-coverage``).
"""
