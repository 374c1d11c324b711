"""The Plans stay as they are (`python -m tests.lowering.digests --write` where they are to change)."""

import pytest

from tests.lowering import digests


@pytest.mark.slow
def test_plans_are_those_of_before():
    known = digests.stored()
    found = dict(digests.digests(digests.FEW, digests.WIDTHS))
    assert len(found) == 96
    assert {key: known[key] for key in found} == found


def test_every_case_has_a_digest():
    assert len(digests.stored()) == 576
