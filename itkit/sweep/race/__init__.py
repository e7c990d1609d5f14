"""Sweeps of schedules: several acts at once, of which one at a time is let on.

Read in this order: ``race`` (what a test holds), ``actors`` (the acts in their threads),
``race_sweep`` (which schedules there are).
"""
