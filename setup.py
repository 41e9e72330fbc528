"""Builds the compiled kernels; everything else is in pyproject.toml.

MEMFAST_BUILD=auto (default)  C++ kernels where a compiler exists, otherwise a working install on the reference
MEMFAST_BUILD=cpu             C++ kernels, and a failure to build them is an error
MEMFAST_BUILD=cuda            C++ and CUDA kernels (needs nvcc), and a failure to build them is an error
MEMFAST_BUILD=none            no compiled kernels
Each instruction set is its own translation unit, named by its suffix and chosen at run time: never -march=native.
"""

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODE = os.environ.get("MEMFAST_BUILD", "auto")
X86 = platform.machine().lower() in ("x86_64", "amd64")
# No fused multiply-add unless a kernel asks for it by name: the noise must have the same bits everywhere.
BASE_FLAGS = ["-O3", "-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-pthread", "-Wall"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
FLAGS_BY_SUFFIX = {
    "_avx2": AVX2,
    "_avx512": AVX512,
    "_avx512vnni": [*AVX512, "-mavx512vnni"],
    "_avx512bf16": [*AVX512, "-mavx512bf16"],
}


def flags_of(source: str) -> "list[str] | None":
    """Extra flags of one source file; None when this processor's compiler cannot build it."""
    for suffix, flags in FLAGS_BY_SUFFIX.items():
        if Path(source).stem.endswith(suffix):
            return flags if X86 else None
    return []


class BuildKernels(build_ext):
    """Compiles each source with its own flags, several at once; in auto mode a failure leaves the reference."""

    def run(self):
        if MODE == "none":
            return
        try:
            super().run()
        except Exception as error:
            if MODE != "auto":
                raise
            print(f"memfast: the C++ kernels were not built ({error}); the reference is used", file=sys.stderr)

    def build_extension(self, ext):
        from concurrent.futures import ThreadPoolExecutor

        objects_dir = Path(self.build_temp)
        jobs = [(source, flags) for source in ext.sources if (flags := flags_of(source)) is not None]

        def compile_one(job):
            source, flags = job
            return self.compiler.compile(
                [source], output_dir=str(objects_dir), include_dirs=ext.include_dirs, macros=ext.define_macros,
                extra_postargs=[*BASE_FLAGS, *flags], depends=ext.depends,
            )  # fmt: skip

        self.compiler.force = True
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [path for paths in pool.map(compile_one, jobs) for path in paths]
        self.compiler.link_shared_object(
            objects, self.get_ext_fullpath(ext.name), libraries=ext.libraries, extra_postargs=["-pthread"],
            target_lang="c++",
        )  # fmt: skip


def extensions():
    """The extension modules of this build."""
    if MODE == "none":
        return []
    import pybind11

    sources = sorted(str(path) for path in Path("csrc").glob("*.cpp")) + sorted(
        str(path) for path in Path("csrc/cpu").glob("*.cpp")
    )
    headers = [str(path) for path in Path("csrc").rglob("*.h")]
    macros = [("MEMFAST_X86", "1")] if X86 else []
    return [
        Extension("memfast._C", sources, include_dirs=["csrc", pybind11.get_include()], depends=headers,
                  define_macros=macros, language="c++"),
    ]  # fmt: skip


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
