"""The step driver: every chunk runs once for any number of workers, steps come one after the other, notes begin at zero."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest

from cnnc.backends.cpu import BACKEND
from cnnc.backends.cpu.run.launch import Runner
from cnnc.kernels.cpu.code import compile
from cnnc.lowering.plan import KernelName, Step
from cnnc.lowering.target import Job
from cnnc.runtime.threads import cores

# Counts the chunk, keeps what the note said before and how many chunks of all steps had begun, and notes the chunk. With
# `others` above 0 the first chunk ends only when as many others have begun.
_TEXT = """
define void @kernel(ptr %arguments, i64 %chunk, ptr %scratch) {
entry:
  %counts = load ptr, ptr %arguments
  %notes.at = getelementptr i64, ptr %arguments, i64 1
  %notes = load ptr, ptr %notes.at
  %orders.at = getelementptr i64, ptr %arguments, i64 2
  %orders = load ptr, ptr %orders.at
  %clock.at = getelementptr i64, ptr %arguments, i64 3
  %clock = load ptr, ptr %clock.at
  %others.at = getelementptr i64, ptr %arguments, i64 4
  %others = load i64, ptr %others.at
  %count = getelementptr i64, ptr %counts, i64 %chunk
  %counted = atomicrmw add ptr %count, i64 1 monotonic
  %order = getelementptr i64, ptr %orders, i64 %chunk
  %tick = atomicrmw add ptr %clock, i64 1 monotonic
  store i64 %tick, ptr %order
  %note = getelementptr i64, ptr %scratch, i64 -8
  %before = load i64, ptr %note
  %noted = getelementptr i64, ptr %notes, i64 %chunk
  store i64 %before, ptr %noted
  %next = add i64 %chunk, 1
  store i64 %next, ptr %note
  %first = icmp eq i64 %chunk, 0
  br i1 %first, label %wait, label %end
wait:
  %ticks = load atomic i64, ptr %clock monotonic, align 8
  %enough = icmp sgt i64 %ticks, %others
  br i1 %enough, label %end, label %wait
end:
  ret void
}
"""


class _Machine:
    """The CPU's driver, and the kernel above."""

    driver, threads = BACKEND.code.driver, BACKEND.code.threads

    def __init__(self):
        import llvmlite.binding as llvm

        goal = compile.machine_of(BACKEND.target)
        self.code = compile.load(bytes(goal.emit_object(llvm.parse_assembly(_TEXT))))

    def ready(self, kernels):
        pass

    def address(self, kernel):
        return self.code


@pytest.fixture(scope="module")
def machine():
    return _Machine()


class _Log:
    def __init__(self, chunks, clock, others=0, links=0, follows=False):
        self.counts, self.notes, self.orders = (np.zeros(chunks, np.int64) for _ in range(3))
        memory = zip(("counts", "notes", "orders", "clock"), (self.counts, self.notes, self.orders, clock), strict=True)
        arguments = (*((name, a.ctypes.data) for name, a in memory), ("others", others))
        self.step = Step("node", KernelName("logged"), arguments, chunks, links=links, follows=follows)


def run(machine, logs, workers, times=1):
    runner = Runner(Job(tuple(log.step for log in logs), lambda ref: 0, 64, workers), machine)
    for _ in range(times):
        runner()


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 8, 9, 20])
def test_every_chunk_runs_once_and_steps_follow_each_other(machine, workers):
    clock = np.zeros(1, np.int64)
    logs = [_Log(chunks, clock) for chunks in (1, 2, 3, 7, 8, 9, 64, 1000, 1)]
    run(machine, logs, workers)
    for log in logs:
        assert (log.counts == 1).all()
    for before, after in pairwise(logs):
        assert before.orders.max() < after.orders.min()
    run(machine, logs, workers, 20)
    assert all((log.counts == 21).all() for log in logs)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_step_begins_without_notes(machine, workers):
    """A worker's note is what its chunk before in this step left, or zero; in a chain also link by link."""
    clock = np.zeros(1, np.int64)
    logs = [_Log(12, clock), _Log(24, clock, links=6), _Log(12, clock, links=6, follows=True), _Log(9, clock)]
    run(machine, logs, workers)
    for log, each in zip(logs, (0, 4, 2, 0), strict=True):
        assert (log.counts == 1).all()
        earlier = log.notes[log.notes > 0] - 1
        assert len(set(earlier)) == len(earlier), "two chunks came after the same one"
        assert (log.orders[earlier] < log.orders[log.notes > 0]).all()
        for chunk, note in enumerate(log.notes):
            assert not each or note == (chunk if chunk % each else 0)
    assert (logs[0].notes == 0).sum() <= workers


@pytest.mark.skipif(cores() < 2, reason="one core: nobody comes to help")
@pytest.mark.parametrize("chunks", [2, 3, 8, 9, 100])
def test_a_worker_that_hangs_loses_its_work_to_others(machine, chunks):
    """The first chunk ends only when all others of the step have begun, those of its own queue among them."""
    clock = np.zeros(1, np.int64)
    log = _Log(chunks, clock, others=chunks - 1)
    done = threading.Thread(target=run, args=(machine, [log], 2), daemon=True)
    done.start()
    done.join(30)
    assert not done.is_alive(), "nobody took what the waiting worker left"
    assert (log.counts == 1).all()
