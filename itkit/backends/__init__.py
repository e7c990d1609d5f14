"""The project's external backends: found, replaced by fakes for a run, and put back.

Read in this order: ``resolve`` (the class or function that a setting names), ``registry``
(``ITKIT["BACKENDS"]``), ``presets`` (backends that itkit knows by itself), ``container`` and
``di`` (dependency injection), ``tracking`` (what tests use of a real service), ``relay`` (calls in
processes that a test has started), ``patches`` (what a test leaves patched over a fake), ``faults``
(the errors that a backend may raise), ``outcomes`` (which of their outcomes tests have seen).
"""
