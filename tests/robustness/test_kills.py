"""A few of the runs that `python -m tests.robustness.kills` kills."""

from __future__ import annotations

from tests.robustness.kills import kills, namespaces


def test_a_killed_run_goes_on_where_ids_come_again() -> None:
    outcome = kills(2, seed=1, epochs=8, apart=namespaces(), target="reference")
    assert outcome.kills >= 2
    assert outcome.ends >= 1
    assert not outcome.wrong
