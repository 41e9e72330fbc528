"""The C++ kernels (AVX-512, AVX2, portable), called on addresses."""


def why_unavailable() -> str | None:
    """None where the compiled module is there, otherwise the reason."""
    try:
        import memfast._C  # noqa: F401
    except ImportError as error:
        return f"the C++ kernels are not built ({error}); reinstall with a C++ compiler and MEMFAST_BUILD=cpu"
    return None
