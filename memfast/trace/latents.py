"""The latents of a diffusers pipeline: initial noise by seed, images in, images out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from memfast.foundation.errors import InputError
from memfast.trace.capture import network_of


class Latents:
    """How a pipeline's samples look to its network.

    Args:
        pipe: the pipeline; without a VAE its samples are images in [-1, 1] themselves.
        height, width: of the images; by default the network's own size.

    Attributes:
        shape: of one sample in front of the network.
        size: (height, width) of an image.
    """

    def __init__(self, pipe: Any, height: int | None = None, width: int | None = None) -> None:
        network: Any = network_of(pipe)
        self.vae = getattr(pipe, "vae", None)
        self.device, self.dtype = network.device, network.dtype
        factor = int(getattr(pipe, "vae_scale_factor", 1)) if self.vae is not None else 1
        side = network.config.sample_size
        rows, columns = (side, side) if isinstance(side, int) else side
        rows, columns = (height // factor if height else rows), (width // factor if width else columns)
        self.size = (rows * factor, columns * factor)
        self.shape = (int(network.config.in_channels), rows, columns)

    def initial(self, seeds: Sequence[int]) -> torch.Tensor:
        """Noise ``[K, *shape]`` in the pipeline's dtype: what its call with a CPU generator of seed k draws."""
        drawn = [
            torch.randn((1, *self.shape), generator=torch.Generator("cpu").manual_seed(seed), dtype=self.dtype)
            for seed in seeds
        ]
        return torch.cat(drawn).to(self.device)

    @torch.no_grad()
    def encode(self, what: str, item: Any) -> torch.Tensor:
        """One target in front of the network: a latent as it is, an image through the VAE (posterior mean, scaled).

        Args:
            what: what error messages call it.
            item: floating ``shape``, or an image: PIL, or uint8 ``[H, W, 3]``.

        Raises:
            InputError: another shape, or an image where the pipeline has no VAE.
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
            latent = self.vae.encode(pixels[None].to(self.vae.device, self.vae.dtype)).latent_dist.mean[0].float()
            return ((latent - (self.vae.config.get("shift_factor") or 0.0)) * self.vae.config.scaling_factor).cpu()
        raise InputError(
            what, expected=f"a latent {list(self.shape)} or an RGB image of {self.size[0]} x {self.size[1]} pixels",
            received=f"{found.dtype} {list(found.shape)}", do="Resize the image first.",
        )  # fmt: skip

    @torch.no_grad()
    def decode(self, samples: torch.Tensor) -> np.ndarray:
        """Images uint8 ``[n, H, W, 3]`` of samples in front of the network."""
        if self.vae is not None:
            shift = self.vae.config.get("shift_factor") or 0.0
            images = [
                self.vae.decode(
                    (one[None].to(self.vae.device) / self.vae.config.scaling_factor + shift).to(self.vae.dtype),
                    return_dict=False,
                )[0]
                for one in samples.float()
            ]
            samples = torch.cat(images)
        pixels = ((samples.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).cpu().numpy()
