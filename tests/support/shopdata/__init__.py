"""A small shop whose constraints are as awkward as they come: data for the tests of itkit.data."""
