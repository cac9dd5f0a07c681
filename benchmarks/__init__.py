"""Benchmarks: each compares two things, or one with its specification, in one run."""
