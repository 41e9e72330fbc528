"""``memfast sample``: draw samples from a trained run."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from memfast.cli.printing import JsonOption, OverwriteOption, QuietOption, SeedOption, print_json

NAME = "sample"


def run(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `memfast train` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for samples.npy (and images/ with --images).")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many samples.")] = 64,
    method: Annotated[str, typer.Option(help="ddim, ddpm or heun.")] = "ddim",
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 50,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at once; the result does not depend on it.")] = 256,
    label: Annotated[int | None, typer.Option(help="Class of all samples, for a run with classes.")] = None,
    guidance: Annotated[float, typer.Option(help="Guidance scale; 1 is none.")] = 1.0,
    weights: Annotated[str | None, typer.Option(help="'model' or the name of an average; default: the first.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="A checkpoint's folder name; default: the newest.")] = None,
    images: Annotated[bool, typer.Option("--images", help="Also write each image as a PNG file.")] = False,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw samples from RUN. The same seed gives the same samples, whatever the batch size."""
    from memfast.foundation.progress import Progress
    from memfast.foundation.provenance import content_hash, versions
    from memfast.models import load_run
    from memfast.runtime.files import claim_output_folder, write_json, write_npy
    from memfast.sampling import sample

    trained = load_run(run_folder, weights=weights, checkpoint=checkpoint)
    claim_output_folder(out, overwrite=overwrite)
    labels = None if label is None else [label] * count
    with Progress("sampling", count * steps, "denoisings", show=not quiet) as progress:
        samples = sample(
            trained, count, method=method, steps=steps, seed=seed, labels=labels, guidance=guidance,
            batch_size=batch_size,
            callback=lambda step: progress.advance(0 if step.x0_hat is None else len(step.sample_ids)),
        )  # fmt: skip
    write_npy(out / "samples.npy", samples)
    facts = {
        "run": str(run_folder), "step": trained.step, "weights": trained.weights, "count": count, "method": method,
        "steps": steps, "seed": seed, "label": label, "guidance": guidance, "sha256": content_hash(samples),
        "versions": versions(),
    }  # fmt: skip
    write_json(out / "samples.json", facts)
    if images and trained.kind == "image":
        write_images(out / "images", samples)
    if as_json:
        print_json(facts)
    else:
        print(f"{count} samples of step {trained.step} ({trained.weights}) in {out / 'samples.npy'}")


def write_images(folder: Path, samples: np.ndarray) -> None:
    """Write uint8 images as PNG files named by their index."""
    from PIL import Image

    from memfast.runtime.files import atomic_path

    digits = len(str(len(samples) - 1))
    for index, image in enumerate(samples):
        with atomic_path(folder / f"{index:0{digits}d}.png") as temporary:
            Image.fromarray(image).save(temporary, "PNG")
