"""What leaves the process, recorded on one timeline for each test.

Read in this order: ``core`` (crossings and the timeline), ``callsite`` (call sites in the source),
``sql`` (statements, COMMIT and hooks), ``transactions`` (open transactions), ``threads``
(assigns the work of threads and processes to tests), ``failure_channel`` (errors of forked
processes), ``audit`` (Python's audit events).
The readers of the timeline are in ``itkit.observation``.
"""
