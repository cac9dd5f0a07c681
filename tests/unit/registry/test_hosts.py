"""Lines of jobs that wait for their turn at a host."""

from __future__ import annotations


def test_the_first_to_come_are_the_first_in_line(registry):
    for job_id in ("c", "a", "b"):
        registry.hosts.line_up("example.org", job_id)
    assert registry.hosts.first("example.org", 2) == ["c", "a"]


def test_each_host_has_a_line_of_its_own(registry):
    registry.hosts.line_up("example.org", "a")
    assert registry.hosts.first("example.com", 9) == []


def test_who_lines_up_again_is_at_the_end(registry):
    for job_id in ("a", "b", "a"):
        registry.hosts.line_up("example.org", job_id)
    assert registry.hosts.first("example.org", 9) == ["b", "a"]


def test_who_leaves_is_in_line_no_more(registry):
    for job_id in ("a", "b"):
        registry.hosts.line_up("example.org", job_id)
    registry.hosts.leave("example.org", "a")
    assert registry.hosts.first("example.org", 9) == ["b"]
