"""Many kernels at once: the same code from every process, and from this one where others fail, lie or say nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cnnc.kernels.cpu import Kernel, target
from cnnc.kernels.cpu.code import builder, compile

KERNELS = [
    Kernel("map", (("kinds", ("vector",)), ("expressions", (("add", ("var", "a0"), ("const", float(n))),)), ("masked", False)))
    for n in range(2 * builder.SHARE)
]  # fmt: skip
GOAL = target.host()
ROOT = Path(__file__).parent.parent.parent.parent


def built(processes, here=True):
    found = {}

    def done(kernel, code):
        assert kernel not in found
        found[kernel] = code

    builder.build_all(KERNELS, GOAL, processes, done, here)
    assert set(found) == set(KERNELS)
    return found


@pytest.mark.parametrize("here", [True, False])
def test_every_process_gives_the_same_code(monkeypatch, here):
    """This process begins when the other has answered, however long that takes to start."""
    mine, there = [], threading.Event()

    def read(process, count, read=builder._read):
        answer = read(process, count)
        there.set()
        return answer

    def build(kernel, goal, build=compile.build):
        mine.append(kernel)
        assert there.wait(60)
        return build(kernel, goal)

    monkeypatch.setattr(builder, "_read", read)
    monkeypatch.setattr(compile, "build", build)
    found = built(2, here)
    assert len(mine) < len(KERNELS), "another process took some"
    assert bool(mine) is here
    assert all(found[k] == compile.build(k, GOAL) for k in KERNELS[::5])


GREETING = f"import sys; sys.path.append({str(builder.WORKER.parent)!r}); from worker import answer; hello = answer(sys.argv[1]);"
HELLO = f"{GREETING} sys.stdout.buffer.write(hello); sys.stdout.flush();"


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit(1)",
        "print('x')",
        "print('x' * 100000)",
        "import sys; print(sys.argv[1])",
        "import os; os.close(0); os.close(1)",
        f"{HELLO} raise SystemExit(1)",
        f"{HELLO} sys.stdout.buffer.write(b'x' * 10**6)",
        f"{HELLO} sys.stdout.buffer.write((4).to_bytes(8, 'big') + b'x' * 36)",
        f"{HELLO} sys.stdout.buffer.write((0).to_bytes(8, 'big') + b'x' * 36)",
        "import time; time.sleep(60)",
        f"{HELLO} import time; time.sleep(60)",
        f"{HELLO} import subprocess; subprocess.run(['sleep', '60'])",
    ],
)
def test_what_fails_elsewhere_is_compiled_here(monkeypatch, tmp_path, program):
    (tmp_path / "worker.py").write_text(program)
    monkeypatch.setattr(builder, "WORKER", tmp_path / "worker.py")
    monkeypatch.setattr(builder, "PATIENCE", 1.0)
    monkeypatch.setattr(compile, "build", lambda kernel, goal: time.sleep(0.03) or str(kernel).encode())
    start = time.perf_counter()
    assert built(2) == {k: str(k).encode() for k in KERNELS}
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("executable", ["", None, "/usr/bin/host", "/bin/cat", "python3", "/no/such/python3"])
def test_other_programs_are_not_started(monkeypatch, executable):
    monkeypatch.setattr("sys.executable", executable)
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(compile, "build", lambda kernel, goal: b"code")
    assert builder.interpreter() is None
    assert built(4) == dict.fromkeys(KERNELS, b"code")


def test_a_frozen_program_does_not_start_itself(monkeypatch):
    assert builder.interpreter() == sys.executable
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert builder.interpreter() is None


def test_another_program_of_that_name_gets_no_work(monkeypatch, tmp_path):
    """It is started once, and starts no more of itself."""
    program = tmp_path / "python3"
    program.write_text(f"#!/bin/sh\necho $CNNC_JOBS >> {tmp_path}/started\ncat\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    monkeypatch.setattr(compile, "build", lambda kernel, goal: time.sleep(0.03) or b"code")
    assert built(2) == dict.fromkeys(KERNELS, b"code")
    assert (tmp_path / "started").read_text() == "1\n"


PROGRAM = """
from cnnc.kernels.cpu import Kernel, target
from cnnc.kernels.cpu.code import builder, compile
here = [compile.build(Kernel("stream"), target.host())]
os.chdir(folder)
sys.path.insert(0, "")
compile.build = None
builder.build_all([Kernel("stream")], target.host(), 1, lambda kernel, code: here.append(code), here=False)
assert here[0] == here[1]
"""


def program(tmp_path, before, **environment):
    """Run a program that compiles in a helper alone; what it says where it fails."""
    text = f"import os, sys\nfolder = {str(tmp_path)!r}\n{before}\n{PROGRAM}"
    run = [sys.executable, "-S", "-c", text]
    done = subprocess.run(run, cwd="/", env=os.environ | environment, capture_output=True, text=True, timeout=120)
    return done.stderr if done.returncode else ""


def test_the_current_folder_is_not_imported_from(tmp_path):
    """Nor what Python's variables name: a helper that imports it dies, and this process does not compile."""
    for name in (
        "pickle",
        "re",
        "types",
        "struct",
        "hashlib",
        "coverage",
        "sitecustomize",
        "usercustomize",
        "yaml",
        "numpy",
    ):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r}); raise SystemExit(1)"
        )
    (tmp_path / ".numba_config.yaml").write_text("disable_jit: 1\n")
    before = f"sys.path += {[str(ROOT), *sys.path]!r}\nimport numba\nos.environ.update(PYTHONPATH=folder, NUMBA_DISABLE_JIT='1')"
    assert not program(tmp_path, before)
    assert not (tmp_path / "executed").exists()


def test_packages_are_found_wherever_this_process_has_them(tmp_path):
    """On PYTHONPATH, which helpers do not heed."""
    for name, (_, folders) in builder.places().items():
        if name != "cnnc":
            (tmp_path / name).symlink_to(folders[0])
            if (libraries := Path(folders[0]).with_name(f"{name}.libs")).is_dir():
                (tmp_path / libraries.name).symlink_to(libraries)
    for name in ("cnnc", "kernels"):
        (tmp_path / name).symlink_to(ROOT / name)
    before = "assert not any('site-packages' in p for p in sys.path), sys.path"
    assert not program(tmp_path, before, PYTHONPATH=str(tmp_path))


@pytest.mark.parametrize(
    "setting", ["NUMBA_DISABLE_JIT=1", "NUMBA_NUM_THREADS=0", "NUMBA_OPT=7", "NUMBA_DUMP_OPTIMIZED=1"]
)
def test_settings_of_numba_stay_without_effect(tmp_path, setting):
    name, _, value = setting.partition("=")
    text = "from cnnc.backends.cpu import BACKEND\nfrom cnnc.lowering.plan import KernelName as K\nBACKEND.ready([K('stream')])"
    run = [sys.executable, "-c", text]
    environment = os.environ | {name: value, "CNNC_CACHE_DIR": str(tmp_path)}
    quiet = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 60, "check": False}
    done = subprocess.run(run, **quiet)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_nothing_compiles_it_says_so(tmp_path, monkeypatch):
    import numba

    from cnnc.backends.cpu import CpuBackend
    from cnnc.diagnostics import CnncError
    from cnnc.lowering.plan import KernelName

    monkeypatch.setenv("CNNC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    for attempt in (lambda cpu, kernel: cpu.ready([kernel]), lambda cpu, kernel: cpu.code.address(kernel)):
        with pytest.raises(CnncError, match="DISABLE_JIT") as e:
            attempt(CpuBackend(), KernelName("stream", (("never", "seen"),)))
        assert e.value.diagnostics[0].code == "E0812"


def test_a_kernel_that_does_not_compile_says_so():
    broken = [Kernel("map", (("no_such_parameter", n),)) for n in range(2 * builder.SHARE)]
    with pytest.raises(TypeError, match="no_such_parameter"):
        builder.build_all(broken, GOAL, 2, lambda kernel, code: None)


def test_kernels_of_a_family_stay_together():
    kernels = [Kernel("a", (("n", n),)) for n in range(builder.GROUP + 1)] + [Kernel("b")]
    assert [len(g) for g in builder.groups(kernels)] == [builder.GROUP, 1, 1]
