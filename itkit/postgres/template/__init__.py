"""Templates: the migrations run once, and later runs clone what they have made.

Read in this order: ``fingerprint`` (what decides the result), ``reads``, ``recording`` and
``sources`` (what migrations were seen to read), ``template``, ``schemas`` with
``schema_template``, ``database_template``.
"""
