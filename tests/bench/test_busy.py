"""Beside spinning processes: what is looked at, what is printed, and that nothing is left running."""

from __future__ import annotations

import os
import sys
import time

import pytest

from cnnc.bench import report, timing
from cnnc.runtime.load import Load, Watch
from tests.bench import busy


def test_a_row_fits_and_nobody_goes_on_spinning(capsys: pytest.CaptureFixture[str]) -> None:
    with busy.spinning(1) as children:
        pass
    assert busy.main(["lenet", "--spinning", "0", "1", "--seconds", "0.02", "--rounds", "2"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
    assert [line.split()[:2] for line in lines[2:]] == [["lenet", "0"], ["lenet", "1"]]
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_the_better_of_two_is_what_ours_is_held_against() -> None:
    found = {
        busy.ONE: timing.timing([1.0] * 9 + [11.0]),
        busy.TWO: timing.timing([3.0] * 10),
        busy.PEER: timing.timing([4.0] * 10),
    }
    mean, high = busy.ratios(found)
    assert mean == pytest.approx(3 / 2)
    assert high == pytest.approx(3 / 2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not tell")
def test_others_work_is_seen_and_children_s_is_not() -> None:
    with busy.spinning(1) as children:
        ours, all_ = Watch(children), Watch()
        time.sleep(1.0)
        mine, found = ours.load(), all_.load()
    assert mine is not None
    assert found is not None
    assert found.others > mine.others - 0.1  # a tick or two apart
    assert found.others > 0.2


@pytest.mark.parametrize(
    ("others", "cores", "threads", "busy"),
    [
        (0.05, 2, 2, False),
        (0.3, 2, 2, True),
        (0.3, 2, 1, False),
        (1.3, 2, 1, True),
        (3.0, 16, 4, False),
        (1.0, 4, 8, True),
    ],
)
def test_when_a_machine_is_busy(others: float, cores: int, threads: int, busy: bool) -> None:
    load = Load(others, cores)
    assert load.busy(threads) is busy
    times = {"cnnc": timing.timing([2.0] * 3), "torch": timing.timing([0.2] * 3)}
    verdict = report.Report("net", "infer", 1, threads, "wide", times, load=load).verdict
    assert ("busy" in verdict) is busy
    assert ("0.10 times" in verdict) is not busy
