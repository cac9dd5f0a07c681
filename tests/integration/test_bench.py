"""The bench of the farm's own cost runs; its figures are for people to read."""

from __future__ import annotations

from bench.chain import measured, table
from farm.embedded.house import open_house
from farm.settings import Settings


def test_a_few_jobs_of_each_kind_have_their_figures(tmp_path):
    # Given workers that have nothing to do
    with open_house(Settings(home=tmp_path), application="bench.hollow") as house:
        costs = measured(house, jobs=3, rounds=1)
    figures = {name: cost.figures() for name, cost in costs.items()}
    # Then every job of both kinds was timed, and the farm asks its broker more than a bare chain does
    assert [(len(cost.alone_ms), len(cost.burst_ms)) for cost in costs.values()] == [(3, 3), (3, 3)]
    assert all(min(each.values()) >= 0 for each in figures.values())
    trips = "a job's round trips to the broker"
    assert figures["the farm"][trips] > figures["bare chain"][trips] > 0
    assert trips in table(costs)
