"""The suites of SciPy and scikit-learn use markers of their own, which ours must know before it imports them."""

THEIRS = (
    "array_api_backends", "array_api_compatible", "fail_slow", "iterations", "network", "parallel_threads",
    "parallel_threads_limit", "skip_xp_backends", "slow", "thread_unsafe", "uses_xp_capabilities", "xfail_on_32bit",
    "xfail_xp_backends", "xslow",
)  # fmt: skip


def pytest_configure(config):
    for name in THEIRS:
        config.addinivalue_line("markers", f"{name}: of the peers' suites")
