"""The cuda kernels."""


def why_unavailable() -> str | None:
    """None where the backend can run, otherwise the reason."""
    return "the cuda kernels are not part of this build"
