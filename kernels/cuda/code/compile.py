"""From a kernel's Python function to PTX: by Numba's front end and LLVM, as for processors, and on any machine. No GPU, driver or
library of NVIDIA's is needed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ...cpu.code.compile import CannotCompileError, check, lock, machine_of, optimized
from ...cpu.target import Target
from .. import Kernel
from ..target import Chip
from .program import Image, Program, heading

SYMBOL = "kernel"
_FUNCTION = "function"


@dataclass(frozen=True)
class _Llvm(Target):
    """What LLVM is told of a chip. A vector is 4 numbers: 16 bytes, the most that an instruction loads."""

    @property
    def triple(self) -> str:
        return "nvptx64-nvidia-cuda"


def llvm_target(chip: Chip, lanes: int = 4) -> Target:
    return _Llvm(
        "cuda", "nvptx64", chip.name, f"+ptx{chip.ptx}", lanes, registers=255, fma=True, near=chip.shared, cache=0
    )


def _entry(program: Program) -> str:
    """LLVM text of the kernel: its arguments in an array, of which nothing is left behind the optimizer."""
    kinds = ["i64"] * len(program.buffers) + ["i32"] * len(program.sizes)
    count = max(1, len(kinds))
    lines = [f"  %all = alloca [{count} x i64]"]
    for i, kind in enumerate(kinds):
        if kind == "i32":
            lines.append(f"  %w{i} = sext i32 %a{i} to i64")
        lines.append(f"  %p{i} = getelementptr i64, ptr %all, i64 {i}")
        lines.append(f"  store i64 %{'w' if kind == 'i32' else 'a'}{i}, ptr %p{i}")
    bounds = f'"nvvm.reqntid"="{program.threads}"'
    if program.resident:
        bounds += f' "nvvm.minctasm"="{program.resident}"'
    parameters = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(kinds))
    return f"""
declare void @{_FUNCTION}(ptr, i64, ptr)
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
define ptx_kernel void @{SYMBOL}({parameters}) {bounds} {{
{chr(10).join(lines)}
  %block = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %wide = zext i32 %block to i64
  call void @{_FUNCTION}(ptr %all, i64 %wide, ptr null)
  ret void
}}
"""


def image_of(program: Program, chip: Chip) -> Image:
    """The PTX of a kernel. A Numba error where it does not compile."""
    import llvmlite.binding as llvm

    target = llvm_target(chip)
    module = optimized(program.function, target)
    function = module.get_function(SYMBOL)
    function.name, function.linkage = _FUNCTION, "external"
    module.link_in(llvm.parse_assembly(_entry(program)))
    machine = machine_of(target)
    module.data_layout = str(machine.target_data)
    inner = module.get_function(_FUNCTION)
    inner.linkage = "internal"
    inner.add_function_attribute("alwaysinline")
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    module.verify()
    text = str(machine.emit_assembly(module))
    _check(text)
    return Image(heading(program) + text)


def _check(text: str) -> None:
    """Raises `AssertionError` for what no kernel may contain: memory of each thread's own, and calls."""
    for word in (".local", "call", ".func"):
        assert not re.search(rf"^\s*{re.escape(word)}\s", text, re.MULTILINE), f"a kernel has {word}"


def build(kernel: Kernel, chip: Chip) -> bytes:
    """The kernel as it is kept and launched (`Image`). Raises `CannotCompileError`."""
    from .. import FAMILIES

    check()
    with lock:
        program = FAMILIES[kernel.family].make(**dict(kernel.parameters))
        return image_of(program, chip).text.encode()


def assemble(text: str, chip: Chip, *options: str) -> tuple[bytes, str] | None:
    """Machine code by ptxas, and what it says of registers and spills; None where there is no ptxas, which CUDA's toolkit has and the
    package nvidia-cuda-nvcc. Raises `RuntimeError` where it refuses.
    """
    tool = shutil.which("ptxas")
    if tool is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(text)
        command = [tool, "-v", f"-arch={chip.name}", *options, str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return made.read_bytes(), done.stderr


__all__ = ["CannotCompileError", "assemble", "build", "image_of", "llvm_target"]
