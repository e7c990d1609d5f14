"""How a project makes instances: its factories and recipes, and the names of its models.

Read in this order: ``factories``, ``recipes``, ``lookup``.
"""
