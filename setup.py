"""Builds the compiled kernels; everything else is in pyproject.toml.

MEMFAST_BUILD=auto (default)  C++ kernels where a compiler exists, otherwise a working install on the reference
MEMFAST_BUILD=cpu             C++ kernels, and a failure to build them is an error
MEMFAST_BUILD=cuda            C++ and CUDA kernels (needs nvcc), and a failure to build them is an error
MEMFAST_BUILD=none            no compiled kernels
Each instruction set is its own translation unit, named by its suffix and chosen at run time: never -march=native.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODE = os.environ.get("MEMFAST_BUILD", "auto")
X86 = platform.machine().lower() in ("x86_64", "amd64")
# No fused multiply-add unless a kernel asks for it by name: the noise must have the same bits everywhere.
BASE_FLAGS = [
    "-O3", "-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-pthread", "-Wall", "-g0",
    "-MMD",
]  # fmt: skip
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
FLAGS_BY_SUFFIX = {
    "_avx2": AVX2,
    # GCC 12 warns of its own AVX-512 header.
    "_avx512": [*AVX512, "-Wno-maybe-uninitialized", "-Wno-uninitialized"],
    "_avx512vnni": [*AVX512, "-mavx512vnni", "-Wno-maybe-uninitialized", "-Wno-uninitialized"],
}

# Machine code for A100 and H100/H200, and PTX of the latter for what comes after. No fused multiply-add here either.
NVCC_FLAGS = [
    "-O3", "-std=c++17", "-fmad=false", "-Xcompiler", "-fPIC,-fvisibility=hidden",
    "-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90,code=[sm_90,compute_90]",
]  # fmt: skip


def flags_of(source: str) -> "list[str] | None":
    """Extra flags of one source file; None when this processor's compiler cannot build it."""
    for suffix, flags in FLAGS_BY_SUFFIX.items():
        if Path(source).stem.endswith(suffix):
            return flags if X86 else None
    return []


def is_fresh(built: Path) -> bool:
    """Whether an object file is newer than this script and every file that the compiler noted it depends on."""
    try:
        needs = built.with_suffix(".d").read_text().replace("\\\n", " ").split()[1:]
        return built.stat().st_mtime > max(os.path.getmtime(path) for path in [*needs, __file__])
    except OSError:
        return False


class BuildKernels(build_ext):
    """Compiles each source with its own flags, several at once; in auto mode a failure leaves the reference."""

    def run(self):
        """Build what the mode asks for."""
        if MODE == "none":
            return
        try:
            super().run()
        except Exception as error:
            if MODE != "auto":
                raise
            print(f"memfast: the C++ kernels were not built ({error}); the reference is used", file=sys.stderr)

    def build_extension(self, ext):
        """Compile the sources whose objects are out of date, and link them."""
        from concurrent.futures import ThreadPoolExecutor

        jobs = [(source, flags) for source in ext.sources if (flags := flags_of(source)) is not None]

        def compile_one(job):
            source, flags = job
            built = Path(self.build_temp, source).with_suffix(".o")
            if is_fresh(built):
                return [str(built)]
            if source.endswith(".cu"):
                built.parent.mkdir(parents=True, exist_ok=True)
                includes = [f"-I{folder}" for folder in ext.include_dirs]
                subprocess.run([nvcc(), *NVCC_FLAGS, *includes, "-c", source, "-o", str(built)], check=True)
                return [str(built)]
            return self.compiler.compile(
                [source], output_dir=self.build_temp, include_dirs=ext.include_dirs, macros=ext.define_macros,
                extra_postargs=[*BASE_FLAGS, *flags],
            )  # fmt: skip

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [path for paths in pool.map(compile_one, jobs) for path in paths]
        # Linked beside its place and renamed: a process that runs the old module keeps it whole.
        target = Path(self.get_ext_fullpath(ext.name))
        linked = target.with_name(f".{os.getpid()}.{target.name}")
        if any(source.endswith(".cu") for source in ext.sources):
            # nvcc links its run time statically, so the module needs nothing but the driver.
            linked.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([nvcc(), "-shared", "-cudart=static", *objects, "-o", str(linked)], check=True)
        else:
            self.compiler.link_shared_object(
                objects, str(linked), libraries=ext.libraries, extra_postargs=["-pthread", "-ldl"], target_lang="c++"
            )
        os.replace(linked, target)


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
        *(cuda_extensions() if MODE == "cuda" else []),
    ]  # fmt: skip


def cuda_extensions():
    """The CUDA kernels, as a module of their own."""
    import pybind11

    sources = sorted(str(path) for suffix in ("*.cu", "*.cpp") for path in Path("csrc/cuda").glob(suffix))
    headers = [str(path) for pattern in ("*.h", "cuda/*.h", "cuda/*.cuh") for path in Path("csrc").glob(pattern)]
    return [
        Extension("memfast._C_cuda", sources, include_dirs=["csrc", pybind11.get_include()], depends=headers,
                  language="c++"),
    ]  # fmt: skip


def nvcc():
    """The path of the CUDA compiler."""
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if found is None:
        raise RuntimeError("MEMFAST_BUILD=cuda needs nvcc, and it is not on the PATH")
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
