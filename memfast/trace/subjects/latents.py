"""The latents of a diffusers pipeline: initial noise by seed, images in, images out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError
from memfast.trace.subjects.watching import network_of, weights_in_float32


class Latents:
    """How a pipeline's samples look to its network.

    Args:
        pipe: the pipeline; without a VAE its samples are images in [-1, 1] themselves.
        height, width: of the images; by default the network's own size.

    Attributes:
        shape: of one sample in front of the network.
        size: (height, width) of an image.
        device: where the pipeline computes, also where its parts are offloaded.
    """

    def __init__(self, pipe: Any, height: int | None = None, width: int | None = None) -> None:
        network: Any = network_of(pipe)
        self.vae = getattr(pipe, "vae", None)
        self.device, self.dtype = getattr(pipe, "_execution_device", network.device), network.dtype
        factor = int(getattr(pipe, "vae_scale_factor", 1)) if self.vae is not None else 1
        side = network.config.sample_size
        rows, columns = (side, side) if isinstance(side, int) else side
        rows, columns = (height // factor if height else rows), (width // factor if width else columns)
        self.size = (rows * factor, columns * factor)
        self.shape = (int(network.config.in_channels), rows, columns)

    def initial(self, seeds: Sequence[int]) -> tuple[torch.Tensor, list[torch.Generator]]:
        """Noise ``[K, *shape]`` in the pipeline's dtype: what its call with a CPU generator of seed k draws.

        Returns:
            the noise, and the generators, which go on from there.
        """
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        drawn = [torch.randn((1, *self.shape), generator=one, dtype=self.dtype) for one in generators]
        return torch.cat(drawn).to(self.device), generators

    @torch.no_grad()
    def encode(self, what: str, item: Any) -> torch.Tensor:
        """One target in front of the network: a latent as it is, an image through the VAE (posterior mean, scaled).

        Args:
            what: what error messages call it.
            item: floating ``shape``, or an image: PIL, or uint8 ``[H, W, 3]``.

        Raises:
            InputError: another shape, or an image that the VAE cannot encode.
        """
        if hasattr(item, "convert"):
            item = np.asarray(item.convert("RGB"))
        found = item if isinstance(item, torch.Tensor) else torch.as_tensor(np.array(item))
        if found.is_floating_point() and tuple(found.shape) == self.shape:
            return found.float().cpu()
        if found.dtype == torch.uint8 and tuple(found.shape) == (*self.size, 3):
            pixels = (found.float() / 127.5 - 1.0).permute(2, 0, 1)
            if self.vae is None:
                return pixels
            with _computing(self.vae) as vae:
                encoded = vae.encode(pixels[None].to(self.device, vae.dtype))
            # A variational encoder gives a distribution, a deterministic one (Sana's) the latent.
            latent = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latent
            offset, factor = self._scaling()
            return self._finite(what, ((latent[0].float() - offset[0]) * factor[0]).cpu())
        raise InputError(
            what, expected=f"a latent {list(self.shape)} or an RGB image of {self.size[0]} x {self.size[1]} pixels",
            received=f"{found.dtype} {list(found.shape)}", do="Resize the image first.",
        )  # fmt: skip

    @torch.no_grad()
    def decode(self, samples: torch.Tensor) -> np.ndarray:
        """Images uint8 ``[n, H, W, 3]`` of samples in front of the network.

        Raises:
            InputError: the VAE gives values that are not finite.
        """
        if self.vae is not None:
            offset, factor = self._scaling()
            with _computing(self.vae) as vae:
                images = [
                    vae.decode((one[None].to(self.device) / factor + offset).to(vae.dtype), return_dict=False)[0]
                    for one in samples.float()
                ]
            samples = self._finite("decoded samples", torch.cat(images))
        pixels = ((samples.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).cpu().numpy()

    def _scaling(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(offset, factor), broadcasting against ``[1, C, H, W]``: a network's latent is (VAE's - offset) * factor."""
        config = self.vae.config if self.vae is not None else {}
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        factor = torch.as_tensor(float(config.get("scaling_factor") or 1.0), device=self.device).view(1, 1, 1, 1)
        if mean is not None and deviation is not None:
            offset, spread = (
                torch.as_tensor(value, dtype=torch.float32, device=self.device).view(1, -1, 1, 1)
                for value in (mean, deviation)
            )
            return offset, factor / spread
        shift = float(config.get("shift_factor") or 0.0)
        return torch.as_tensor(shift, device=self.device).view(1, 1, 1, 1), factor

    def _finite(self, what: str, values: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(values).all():
            dtype = None if self.vae is None else self.vae.dtype
            raise InputError(
                what, expected="finite values", received=f"NaN or infinity from the VAE in {dtype}",
                do="Load the pipeline, or its VAE, in float32 or bfloat16.",
            )  # fmt: skip
        return values


@contextmanager
def _computing(vae: Any) -> Iterator[Any]:
    """The VAE in a dtype that it can compute in: one that overflows in float16 says so, and is used in float32."""
    overflows = bool(vae.config.get("force_upcast", False)) and vae.dtype == torch.float16
    if not overflows:
        yield vae
        return
    with weights_in_float32(vae):
        yield vae
