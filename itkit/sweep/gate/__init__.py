"""Where the crossings of an act pass, are numbered, and are given what happens to them.

Read in this order: ``gate``, then ``statements``, ``calls`` and ``commands`` (what each kind of
crossing can suffer, and what it touches).
"""
