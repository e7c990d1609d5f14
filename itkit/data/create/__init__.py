"""One instance of a model, by a factory or by model_bakery.

Read in this order: ``maker``, ``fillers`` (unique values), ``login`` (users), ``unknown`` (names
that nothing can take).
"""
