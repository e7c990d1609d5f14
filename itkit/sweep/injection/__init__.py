"""Sweeps of faults: one crossing of the act fails, loses its reply, or is the last before a crash.

Read in this order: ``fault`` (what a test holds), ``hanging`` (an act that does not come to its
end), ``fault_sweep`` (which faults there are after the first run).
"""
