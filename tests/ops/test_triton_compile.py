"""Every Triton kernel compiles ahead of time for sm_80 and sm_90, without spills and without fused multiply-adds."""

import re

import pytest

pytest.importorskip("triton", reason="triton is not installed")

from tests.ops.gpu_compile import TARGETS, compile_kernel, kernels

INT8_PRODUCT = {80: r"mma\.sync\S*\.s32\.s8\.s8\.s32", 90: r"wgmma\.mma_async\S*\.s32\.s8\.s8"}
ROUNDED = ("standard_normal_kernel", "noise_kernel", "loss_kernel", "ema_kernel")


@pytest.mark.parametrize("capability", TARGETS)
@pytest.mark.parametrize("kernel", list(kernels()), ids=lambda kernel: kernel.label)
def test_kernel_compiles_without_spills(kernel, capability, record_property):
    ptx, registers, stack = compile_kernel(kernel, capability)
    print(f"{kernel.label} sm_{capability}: {registers} registers, {stack} bytes of stack")
    record_property("registers", registers)
    assert stack == 0
    if kernel.name in ROUNDED:
        assert not re.search(r"\bfma\.rn\S*\.f32", ptx)
        assert ".ftz" not in ptx
    if kernel.name in ("noise_kernel", "loss_kernel"):
        # 16 bytes per access, and the conversion that rounds.
        assert "st.global.v4.b32" in ptx
        if kernel.types.get("out", kernel.types.get("gradient")) == "*bf16":
            assert re.search(r"cvt\.rn\.bf16(x2)?\.f32", ptx)
        assert "sqrt.rn.f32" in ptx
    if kernel.name == "scan_kernel":
        assert re.search(INT8_PRODUCT[capability], ptx)


def test_the_search_for_fused_multiply_adds_can_find_one():
    assert re.search(r"\bfma\.rn\S*\.f32", "\tfma.rn.f32 \t%r1, %r2, %r3, %r4;")
