"""The captured cross-attention against projections and softmax written out, and the detectors that take it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from memfast.detectors import detector
from memfast.foundation.errors import InputError
from memfast.integrations import FirstCall, capture_attention, prompt_tokens
from tests.integrations.tiny_stable_diffusion import SIDE, TOKENS, run, tiny_pipeline


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def test_the_maps_are_softmax_of_queries_and_keys(pipeline):
    seen = {}

    def watch(name):
        def hook(module, args, options):
            seen[name] = (args[0], options["encoder_hidden_states"])

        return hook

    layers = {name: layer for name, layer in pipeline.unet.named_modules() if name.endswith("attn2")}
    handles = [layer.register_forward_pre_hook(watch(name), with_kwargs=True) for name, layer in layers.items()]
    x, text = torch.randn(4, 4, SIDE, SIDE), torch.randn(4, TOKENS, 16)
    with torch.no_grad(), capture_attention(pipeline.unet) as capture:
        pipeline.unet(x, 500, encoder_hidden_states=text)
    for handle in handles:
        handle.remove()
    assert capture.names == list(seen)
    assert len(capture.layers) == 4
    for name, found in zip(capture.names, capture.layers, strict=True):
        layer, (pixels, tokens) = layers[name], seen[name]
        with torch.no_grad():
            query, key = (part.unflatten(2, (layer.heads, -1)) for part in (layer.to_q(pixels), layer.to_k(tokens)))
            scores = torch.einsum("bphd,bthd->bhpt", query, key) / query.shape[-1] ** 0.5
            expected = scores.softmax(dim=-1).mean(dim=1)
        assert found.shape == (2, pixels.shape[1], TOKENS)
        torch.testing.assert_close(found, expected[2:])


def test_capturing_changes_no_bit_and_leaves_nothing_behind(pipeline):
    plain, before = run(pipeline), dict(pipeline.unet.attn_processors)
    with capture_attention(pipeline.unet) as capture:
        assert torch.equal(run(pipeline), plain)
        assert len(capture.layers) == 4  # the last call's alone
    assert pipeline.unet.attn_processors == before
    with pytest.raises(RuntimeError, match="stop"), capture_attention(pipeline.unet):
        raise RuntimeError("stop")
    assert pipeline.unet.attn_processors == before
    assert torch.equal(run(pipeline), plain)


def test_without_guidance_all_of_the_batch_is_kept(pipeline):
    with torch.no_grad(), capture_attention(pipeline.unet, guided=False) as capture:
        pipeline.unet(torch.randn(3, 4, SIDE, SIDE), 500, encoder_hidden_states=torch.randn(3, TOKENS, 16))
    assert {len(layer) for layer in capture.layers} == {3}


def test_a_network_without_cross_attention_is_refused_in_words():
    network = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="a diffusers network with cross-attention layers"), capture_attention(network):
        pass


def test_prompts_are_counted_with_their_marks(pipeline):
    assert prompt_tokens(pipeline, "a b c").tolist() == [5]
    assert prompt_tokens(pipeline, ["a", "a b", "a " * 40]).tolist() == [3, 4, TOKENS]


def test_every_detector_watches_a_pipeline(pipeline):
    """Attention, both branches and the derivative through a UNet2DConditionModel, at two steps."""
    prompts = ["a b c", "a b c", "x"]
    call = FirstCall(pipeline, prompts, steps=6, generator=torch.Generator().manual_seed(0))
    found = {name: detector(name) for name in ("wen", "jeon", "hintersdorf", "ren", "ren_first", "bright_ending")}
    for one in found.values():
        one.begin(3, groups=[0, 0, 0], tokens=prompt_tokens(pipeline, prompts))
    with torch.no_grad(), capture_attention(pipeline.unet) as capture:
        for index in range(2):
            x = call.latents + index
            gap = call.difference(x, call.embeds)
            step = SimpleNamespace(
                index=index, alpha=0.1, sigma=0.995, state=x, noise_hat=x, conditional=x + gap, unconditional=x
            )
            layers = list(capture.layers)
            for one in found.values():
                one.step(step, difference=lambda x: call.difference(x, call.embeds), attention=layers)
    scores = {name: one.scores() for name, one in found.items()}
    for values in scores.values():
        assert values.shape == (3,)
        assert np.isfinite(values).all()
    # The derivative along the gap, numerically in float64.
    pipeline.unet.double()
    wide = FirstCall(pipeline, prompts, steps=6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x, embeds, negative = call.latents.double(), call.embeds.double(), call.negative.double()
        wide.negative = negative

        def difference(x):
            state = torch.cat([x, x])
            output = pipeline.unet(state, call.timestep, encoder_hidden_states=torch.cat([negative, embeds])).sample
            without, with_prompt = output.chunk(2)
            return with_prompt - without

        gap = difference(x)
        numeric = (difference(x + 1e-5 * gap) - difference(x - 1e-5 * gap)) / 2e-5
    pipeline.unet.float()
    np.testing.assert_allclose(scores["jeon"], numeric.flatten(1).norm(dim=1) / 0.995**2, rtol=1e-3)
