"""Each claim of itkit, measured side by side with what a user would use otherwise.

``python -m benchmarks NAME [--json FILE]``. Only ratios of one run mean anything: the machines
that this runs on are shared.
"""
