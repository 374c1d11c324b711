"""The thread pool: bits, many callers, forks, exits, threads that cannot be had, and systems without it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.backends.cpu import BACKEND
from cnnc.backends.cpu.code import Code
from cnnc.backends.cpu.run import openmp, pool
from cnnc.kernels.cpu.steps import driver, threads

LENET = Path(__file__).parent.parent.parent / "examples" / "lenet5_relu.cnn"
OURS = threads.available(BACKEND.target)
ours = pytest.mark.skipif(not OURS, reason="this system has no pool of ours")
X = np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    return cnnc.load(LENET)


@pytest.fixture(scope="module")
def expected(net):
    return cnnc.compile(net, threads=1)(X)


@pytest.fixture
def without(monkeypatch):
    """As on a system that our pool does not know."""
    monkeypatch.setattr(pool, "_pool", None)
    monkeypatch.setattr(Code, "threads", lambda self: None)


def test_the_records_are_as_the_kernels_have_them():
    assert (pool.LINE, pool.INSIDE, pool.JOINED) == (driver.LINE, driver.INSIDE, driver.JOINED)


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_bits_over_many_calls(net, expected, workers):
    exe = cnnc.compile(net, threads=workers)
    for _ in range(300):
        np.testing.assert_array_equal(exe(X), expected)


def test_several_threads_call_several_executables(net, expected):
    executables, wrong = [cnnc.compile(net, threads=n) for n in (2, 3, 8)], []

    def call(k):
        for _ in range(100):
            if not np.array_equal(executables[k % 3](X), expected):
                wrong.append(k)

    callers = [threading.Thread(target=call, args=(k,)) for k in range(12)]  # more than runs that may be open
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_executables_come_and_go(net, expected):
    for _ in range(20):
        exe = cnnc.compile(net, threads=4)
        for _ in range(10):
            np.testing.assert_array_equal(exe(X), expected)


@pytest.mark.usefixtures("without")
def test_without_our_pool_calls_run_on_numba_s(net, expected):
    exe = cnnc.compile(net, threads=4)
    assert pool.of(BACKEND.code) is None
    for _ in range(20):
        np.testing.assert_array_equal(exe(X), expected)


@pytest.mark.usefixtures("without")
def test_without_any_pool_the_caller_does_the_work_of_all(net, expected, monkeypatch):
    exe = cnnc.compile(net, threads=4)
    monkeypatch.setattr(openmp, "_forked", True)
    np.testing.assert_array_equal(exe(X), expected)
    monkeypatch.undo()
    np.testing.assert_array_equal(exe(X), expected)


HEAD = f"""
import os, sys, threading, time, traceback, numpy as np, cnnc
from cnnc.backends.cpu.run import pool
x = np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32)
path = {str(LENET)!r}
net = cnnc.load(path)
alone = cnnc.compile(net, threads=1)
expected = alone(x)
def check(exe, times=50):
    for _ in range(times):
        assert np.array_equal(exe(x), expected)
def fork(child):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child(); code = 0
        except BaseException: traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
def product():
    import torch
    a = torch.randn(600, 600)
    return (a @ a).sum().item()
"""
TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
FORKS = {
    "a child and its child have helpers of their own": """
exe = cnnc.compile(net, threads=3); check(exe)
def child():
    check(exe); check(cnnc.compile(net, threads=2)); fork(lambda: check(exe))
fork(child); check(exe)""",
    "forks while another thread calls": """
exe, on = cnnc.compile(net, threads=2), True
def call():
    while on: exe(x)
caller = threading.Thread(target=call); caller.start()
for _ in range(20): fork(lambda: check(exe, 5))
on = False; caller.join()""",
    "a fork in a thread": """
exe = cnnc.compile(net, threads=2); check(exe)
t = threading.Thread(target=fork, args=(lambda: check(exe),)); t.start(); t.join(); check(exe)""",
    "a pool of processes": """
import multiprocessing as mp
exe = cnnc.compile(net, threads=2); check(exe)
def work(k): check(exe, 5); return k
with mp.get_context("fork").Pool(2) as p: assert p.map(work, range(6)) == list(range(6))""",
    "forks in two threads, while another compiles": """
from cnnc.backends.cpu import BACKEND
from cnnc.backends.cpu.code import Code
from cnnc.kernels.cpu.steps import threads as parts
exe, on = cnnc.compile(net, threads=2), True
def build():
    while on: parts.build("pauses", BACKEND.target)
def child(): check(exe, 5); parts.build("pauses", BACKEND.target)
ts = [threading.Thread(target=lambda: [fork(child) for _ in range(5)]) for _ in range(2)]
builder = threading.Thread(target=build); builder.start()
for t in ts: t.start()
for t in ts: t.join()
on = False; builder.join()""",
    "a fork while another thread imports": """
import tempfile
from pathlib import Path
folder = tempfile.mkdtemp()
Path(folder, "slow_module.py").write_text("import time; time.sleep(0.5); whole = 1")
sys.path.insert(0, folder)
t = threading.Thread(target=eval, args=("__import__('slow_module')", {"__name__": "cnnc.something"})); t.start()
time.sleep(0.1)
def child():
    import slow_module
    assert slow_module.whole
fork(child); t.join()""",
    "locks that another thread held": """
exe, held, over = cnnc.compile(net, threads=2), threading.Event(), threading.Event()
from cnnc import locks
from cnnc.kernels.cpu.code import compile
def hold():
    with compile.lock: time.sleep(0.3)  # a fork waits for it
    taken = list(locks._all)
    for lock in taken: lock.__enter__()
    held.set(); over.wait()
    for lock in taken: lock.__exit__()
holder = threading.Thread(target=hold); holder.start(); assert held.wait(30)
fork(lambda: (check(exe), check(cnnc.compile(cnnc.load(path), threads=2)))); over.set(); holder.join(); check(exe)""",
}
ENDS = {
    "right after a call": "check(cnnc.compile(net, threads=2))",
    "while a daemon thread calls": """
exe = cnnc.compile(net, threads=2); check(exe)
def call():
    while True: exe(x)
threading.Thread(target=call, daemon=True).start(); time.sleep(0.1)""",
    "with an exception while a thread calls": """
exe = cnnc.compile(net, threads=2)
threading.Thread(target=check, args=(exe, 2000), daemon=True).start()
try: exe(x[:, :, :5])
except cnnc.CnncError: check(exe)
else: raise SystemExit("no error")""",
}
HELPERS = {
    "no thread can be had": """
pool.Pool._create = lambda self, *a: 11
check(cnnc.compile(net, threads=4)); assert pool._pool.helpers == 0""",
    "only some threads can be had": """
create = pool.Pool._create
pool.Pool._create = lambda self, *a: create(self, *a) if self.helpers < 3 else 11
check(cnnc.compile(net, threads=8)); assert pool._pool.helpers == 2""",
    "a user's threads ran out": """
import resource
exe = cnnc.compile(net, threads=4); check(exe)
def child():
    if os.getuid() == 0: os.setuid(65534)  # root is not held to it
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    check(exe); assert pool._pool.helpers == 0
fork(child)""",
    "helpers take no signals": """
import signal
exe = cnnc.compile(net, threads=4); check(exe)
mine = {str(threading.get_native_id())}
for task in set(os.listdir("/proc/self/task")) - mine:
    blocked = next(l for l in open(f"/proc/self/task/{task}/status") if l.startswith("SigBlk"))
    assert int(blocked.split()[1], 16) >> (signal.SIGINT - 1) & 1 and int(blocked.split()[1], 16) >> (signal.SIGTERM - 1) & 1
    assert not int(blocked.split()[1], 16) >> (signal.SIGSEGV - 1) & 1
assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
assert len(os.listdir("/proc/self/task")) >= 4""",
}
TORCHED = {
    "PyTorch's threads before a fork, ours behind it": """
product(); exe = cnnc.compile(net, threads=2)
fork(lambda: check(exe)); fork(lambda: check(cnnc.compile(net, threads=2)))""",
    "ours before a fork, PyTorch's behind it": """
import torch
exe = cnnc.compile(net, threads=2); check(exe); fork(product)""",
    "workers of a DataLoader": """
import torch.utils.data as data
product(); exe = cnnc.compile(net, threads=2); check(exe)
class Set(data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): check(exe, 3); return i
loader = data.DataLoader(Set(), batch_size=2, num_workers=2, multiprocessing_context="fork")
assert sorted(int(i) for batch in loader for i in batch) == list(range(8))""",
}


def finishes(*programs: str) -> None:
    """All in one process of their own, in children of it where they are several."""
    code = "\n".join(f"fork(lambda: exec({p!r}, globals()))" for p in programs) if programs[1:] else programs[0]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{HEAD}{code}\nprint('fine')"],
        capture_output=True,
        text=True,
        timeout=300,  # kernels may have to be compiled first
        cwd=LENET.parent.parent,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", ""), done


@FORK
def test_forks():
    finishes(*FORKS.values())


@pytest.mark.parametrize("when", ENDS)
def test_a_process_ends(when):
    finishes(ENDS[when])


@ours
def test_helpers():
    finishes(*HELPERS.values())


@FORK
@TORCH
@pytest.mark.slow
def test_beside_pytorch():
    finishes(*TORCHED.values())
