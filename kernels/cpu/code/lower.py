"""Numba's front end: from a Python function to LLVM IR as Numba writes it, of which LLVM has seen nothing yet."""

from __future__ import annotations

from typing import Any

from numba.core import compiler, config, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

# Passes of Numba for what kernels have none of: closures, `with`, `raise`, functions to inline, loops over tuples, NumPy's
# arrays. A tenth of the compile time; the code is the same.
_NEEDLESS = {
    "WithLifting",
    "InlineClosureLikes",
    "RewriteSemanticConstants",
    "GenericRewrites",
    "RewriteDynamicRaises",
    "MakeFunctionToJitFunction",
    "InlineInlinables",
    "FindLiterallyCalls",
    "LiteralUnroll",
    "LiteralPropagationSubPipelinePass",
    "InlineOverloads",
    "NopythonRewrites",
    "NoPythonSupportedFeatureValidation",
    "AnnotateTypes",
    "DumpParforDiagnostics",
}


class _Pipeline(CompilerBase):  # type: ignore[misc]
    """Numba's way from a function to LLVM IR, without what kernels do not need."""

    def define_pipelines(self) -> list[Any]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes[:] = [p for p in manager.passes if p[0].__name__ not in _NEEDLESS]
        return [manager]


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """Collects modules; never optimizes, never reaches Numba's execution engine."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


def lowered(
    function: Any, arguments: tuple[Any, ...], result: Any = types.void, apart: bool = False
) -> tuple[Any, Any]:
    """Numba's library with the function and all that it calls, and Numba's description of the function. Its pointers lie
    `apart`: what is written through one is not read through another.
    """
    flags = compiler.Flags()
    flags.nrt = False
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.enable_looplift = False
    flags.enable_pyobject = False
    flags.noalias = apart
    with global_compiler_lock:
        saved, config.OPT = config.OPT, type(config.OPT)(0)
        try:
            typing, context = cpu_target.typing_context, cpu_target.target_context
            library = _Library(context.codegen(), function.__name__)
            done = compiler.compile_extra(
                typing, context, function, arguments, result, flags, {}, library=library, pipeline_class=_Pipeline
            )
            library.finalize()
        finally:
            config.OPT = saved
    return library, done.fndesc
