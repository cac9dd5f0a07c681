"""Everything that can break a farm, broken on purpose: `python -m tests.chaos`."""
