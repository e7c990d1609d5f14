"""The project's external backends: found, replaced by fakes for a run, and put back.

Read in this order: ``resolve`` (the class or function that a setting names), ``registry``
(``ITKIT["BACKENDS"]``), ``presets`` (backends that itkit knows by itself), ``container`` and
``di`` (dependency injection), ``tracking`` (the methods and branches of real services that tests
use), ``relay`` (calls in processes that a test has started), ``patches`` (patches that a test
leaves over a fake), ``faults`` (the errors that a backend may raise), ``outcomes`` (which outcomes
of backends tests have seen).
"""
