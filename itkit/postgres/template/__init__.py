"""Templates: the migrations run once, and later runs clone the result.

Read in this order: ``fingerprint`` (what decides the result), ``reads``, ``recording`` and
``sources`` (the values that migrations read), ``template``, ``schemas`` with ``schema_template``,
``database_template``.
"""
