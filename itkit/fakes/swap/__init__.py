"""A real class or function, swapped for its fake in place.

Read in this order: ``swaps``, ``replacements`` (what stands in a class), ``mocks`` (objects of an
interface), and for what a client holds ``parts``, ``reading``, ``outline``, ``stored`` and
``remains``.
"""
