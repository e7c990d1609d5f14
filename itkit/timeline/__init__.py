"""What leaves the process, recorded on one timeline for each test.

Read in this order: ``core`` (crossings and the timeline), ``callsite`` (call sites in the source),
``sql`` (statements, COMMIT and hooks), ``transactions`` (which are open), ``threads`` and
``forked`` (to which test the work of a thread or a process belongs), ``audit`` (Python's audit
events). The readers of the timeline are in ``itkit.observation``.
"""
