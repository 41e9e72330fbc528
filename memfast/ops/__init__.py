"""Tensors in, tensors out: the ops of memfast, one public function each. What a backend implements: ``contract``."""

from memfast.ops.addresses import STREAMS, key
from memfast.ops.loss import loss
from memfast.ops.noise import noise
from memfast.ops.random import draw_timesteps, philox, standard_normal

__all__ = ["STREAMS", "draw_timesteps", "key", "loss", "noise", "philox", "standard_normal"]
