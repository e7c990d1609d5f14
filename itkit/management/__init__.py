"""The work of ``manage.py itkit``; the commands themselves are in ``commands``.

Read in this order: ``doctor`` (finds what a schema for each worker does not isolate), ``clean``
(shows and removes what itkit keeps), ``factories`` (factories and scenarios outside of tests).
"""
