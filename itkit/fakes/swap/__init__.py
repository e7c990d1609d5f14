"""A real class or function, swapped for its fake in place.

Read in this order: ``swaps``, ``replacements`` (of the methods in a class), ``mocks`` (objects of
an interface), and for the parts of a client ``parts``, ``reading``, ``outline``, ``stored`` and
``remains``.
"""
