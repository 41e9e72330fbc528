"""What the compile tests share: Triton kernels built for GPUs that are not here, and what the assembler says."""

import importlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

LONGS = "*i64"
TARGETS = (80, 90)


@dataclass(frozen=True)
class Kernel:
    """One specialisation: a kernel's name, its arguments' types, its constants, and its launch options."""

    name: str
    module: str
    types: dict
    constants: dict
    warps: int = 4
    stages: int = 3
    aligned: tuple = ()

    @property
    def label(self):
        told = ("DENSE", "WIDE", "GATHER", "BLOCK_D")
        shown = [f"{key}={value}" for key, value in self.constants.items() if key in told]
        return "-".join(
            [self.name, *sorted({t for t in self.types.values() if t in ("*bf16", "*fp16", "*u8")}), *shown]
        )


def compile_kernel(kernel, capability):
    """(PTX, registers, bytes of stack and local memory) of a kernel."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(importlib.import_module(kernel.module), kernel.name)
    names = function.arg_names
    assert set(names) == set(kernel.types) | set(kernel.constants), "the kernel's arguments have changed"
    source = ASTSource(
        fn=function,
        signature={name: kernel.types.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in kernel.constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in kernel.aligned},
    )
    options = {"num_warps": kernel.warps, "num_stages": kernel.stages, "enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return compiled.asm["ptx"], *resources(compiled.asm["cubin"], Path(triton.__file__).parent)


def resources(cubin, triton_folder):
    """(registers, bytes of stack and local memory) as the cubin states them."""
    tool = triton_folder / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    assert found, text
    return int(found[1]), int(found[2]) + int(found[3])


def kernels():
    """Every Triton kernel, as it is launched on a GPU."""
    integers = dict.fromkeys(("numel", "chunks", "rows", "length", "count", "total"), "i32")
    words = dict.fromkeys(("indices", "timesteps", "sample_ids", "fixed_ids", "key", "thresholds", "positions"), LONGS)
    folder = "memfast.ops.triton"
    random, noise, loss, search = (f"{folder}.{name}" for name in ("random", "noise", "loss", "nearest"))
    yield Kernel(
        "philox_kernel", random, {"out": LONGS, "counter": LONGS, "key": LONGS, "count": "i32"}, {"BLOCK": 128}
    )
    yield Kernel(
        "standard_normal_kernel", random,
        {"out": "*fp32", "sample_ids": LONGS, "key": LONGS, "first_quad": "i64"}
        | dict.fromkeys(("numel", "shift", "chunks"), "i32"),
        {"STREAM": 0, "QUADS": 256},
    )  # fmt: skip
    draw = dict.fromkeys(("out", "thresholds", "sample_ids", "key", "positions"), LONGS)
    yield Kernel(
        "draw_timesteps_kernel", random, draw | dict.fromkeys(("batch", "count", "total"), "i32"),
        {"STRATIFIED": True, "SEARCH_STEPS": 10, "BLOCK": 128},
    )  # fmt: skip
    for dtype in ("*fp32", "*bf16", "*fp16"):
        for gather in (False, True):
            x0 = "*u8" if gather else dtype
            fields = {
                "HAS_FIXED": True,
                "GATHER": gather,
                "WIDTH": 32 if gather else 0,
                "QUADS": 256,
                "WIDE": dtype != "*fp32",
            }
            drawing = {"DRAW": gather, "STRATIFIED": gather, "SEARCH_STEPS": 10 if gather else 0}
            yield Kernel(
                "noise_kernel", noise, {"out": dtype, "x0": x0, "table": "*fp32"} | words | integers, fields | drawing,
                aligned=("out", "x0", "numel"),
            )  # fmt: skip
            kept = {name: words[name] for name in ("indices", "timesteps", "sample_ids", "fixed_ids", "key")}
            lengths = {name: integers[name] for name in ("numel", "chunks", "rows", "length")}
            types = {"partial": "*fp32", "gradient": dtype, "prediction": dtype, "x0": x0, "table": "*fp32"}
            yield Kernel(
                "loss_kernel", loss, types | kept | lengths | {"scale_bits": "i64"}, fields | {"GRADIENT": True},
                aligned=("gradient", "prediction", "x0", "numel"),
            )  # fmt: skip
    yield Kernel(
        "finish_kernel", loss, {"out": "*fp32", "partial": "*fp32", "count": "i32", "divisor": "i64"}, {"BLOCK": 1024}
    )
    from memfast.ops.triton.nearest import DENSE, GROUP, LARGE, SEGMENT, SHIFT_BLOCK, SMALL, SPLITS, WIDE

    yield Kernel(
        "shift_kernel", search,
        {"out": "*i8", "norms": "*i32", "values": "*u8", "stride": "i64", "length": "i32", "padded": "i32"},
        {"BLOCK": SHIFT_BLOCK},
    )  # fmt: skip
    for tile, dense in ((LARGE, False), (SMALL, False), (DENSE, True), (WIDE, False), (WIDE, True)):
        wide = tile is WIDE
        number = "*i64" if wide else "*i32"
        yield Kernel(
            "scan_kernel", search,
            {
                "kept": number if dense else LONGS, "counts": "*i32", "queries": "*i8", "rows": "*i8",
                "query_norms": number, "row_norms": number, "limits": number, "exclude": LONGS,
                "query_count": "i32", "row_count": "i32", "first_index": "i32", "packing": "i32",
            },
            {
                "LENGTH": 36864 if wide else 3072, "SEGMENT": SEGMENT, "SPLITS": SPLITS, "GROUP": GROUP, "CAPACITY": 64,
                "DENSE": dense, "WIDE": wide, "BLOCK_Q": tile.queries, "BLOCK_M": tile.rows, "BLOCK_D": tile.length,
            },
            warps=tile.warps, stages=tile.stages, aligned=("queries", "rows", "kept", "counts"),
        )  # fmt: skip
    import triton.language as tl

    yield Kernel(
        "ema_kernel", "memfast.ops.triton.ema",
        {"addresses": LONGS, "places": LONGS} | {f"weight_{k}": "fp32" for k in range(4)},
        {"PARAMETER": tl.float32, "AVERAGES": 2, "ALIGNED": True, "CHUNK": 2048},
    )  # fmt: skip
