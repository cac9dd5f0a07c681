"""The HTTP API of a farm, as Runpod's clients speak it."""
