"""``memfast info``: what this installation can do, and why something is missing; or what an index holds."""

from importlib import metadata
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from memfast.cli.printing import JsonOption, print_json
from memfast.foundation import provenance

NAME = "info"
# Optional packages: what they are for and which extra brings them.
OPTIONAL = {
    "triton": ("GPU kernels", "gpu"),
    "diffusers": ("U-Nets and pipelines", "train"),
    "faiss-cpu": ("approximate search", "audit"),
    "POT": ("optimal transport", "audit"),
    "lapx": ("fast exact assignment", "audit"),
    "scikit-learn": ("clustering in C_T", "audit"),
    "matplotlib": ("plots", "audit"),
    "pyarrow": ("parquet", "audit"),
}


def run(
    index: Annotated[str | None, typer.Argument(help="An index: say what is inside, in place of the above.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List backends, processor features, versions, and the reason for whatever is missing; or describe an INDEX."""
    if index is not None:
        _describe_index(index, as_json)
        return
    facts = gather()
    if as_json:
        print_json(facts)
        return
    console = Console()
    console.print(
        f"memfast {facts['memfast']}  Python {facts['versions']['python']}  torch {facts['versions']['torch']}"
    )
    machine, cpu = facts["machine"], facts["cpu"]
    console.print(f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}")
    console.print(f"C++ kernels: {cpu['kernels']}; processor features: {', '.join(cpu['features']) or 'unknown'}")
    console.print(f"GPU: {facts['gpu']}\n")
    table = Table("backend", "available", "reason if not", box=None, pad_edge=False, header_style="bold")
    for row in facts["backends"]:
        table.add_row(row["name"], "yes" if row["available"] else "no", row["reason"] or "")
    console.print(table)
    console.print()
    table = Table("package", "version", "what for", box=None, pad_edge=False, header_style="bold")
    for row in facts["optional"]:
        version = row["version"] or f"missing: pip install 'memfast\\[{row['extra']}]'"
        table.add_row(row["name"], version, row["purpose"])
    console.print(table)


def _describe_index(folder: str, as_json: bool) -> None:
    from memfast.cli.index import print_index
    from memfast.neighbors import open_index

    facts = open_index(folder).describe()
    if as_json:
        print_json(facts)
    else:
        print_index(facts)


def gather() -> dict[str, Any]:
    """Everything ``memfast info`` says, as one dictionary."""
    import memfast
    from memfast.ops.registry import BACKENDS, why_unavailable

    backends = []
    for backend in BACKENDS:
        reason = why_unavailable(backend.name)
        devices = list(backend.devices)
        backends.append({"name": backend.name, "available": reason is None, "reason": reason, "devices": devices})
    optional = []
    for name, (purpose, extra) in OPTIONAL.items():
        optional.append({"name": name, "version": _version(name), "purpose": purpose, "extra": extra})
    return {
        "memfast": memfast.__version__,
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "commit": provenance.commit(),
        "cpu": _cpu(),
        "gpu": _gpu(),
        "backends": backends,
        "optional": optional,
    }


def _cpu() -> dict[str, Any]:
    from memfast.ops import compiled

    try:
        kernels = compiled.load(compiled.CPU)
    except ImportError as error:
        return {"kernels": f"not built ({error})", "features": []}
    return {"kernels": kernels.isa(), "features": list(kernels.cpu_features())}


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none that PyTorch sees"
    return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
