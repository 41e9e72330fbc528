"""Mitigations of diffusers pipelines against hand-written loops over the pipeline's own network and scheduler."""

import diffusers
import numpy as np
import pytest
import torch
from scipy.signal import argrelextrema

from memfast.foundation.errors import InputError
from memfast.integrations import guided_by, optimise_latents, optimise_prompt, schedule_from_scheduler
from memfast.sampling import Delayed, DynamicTransition
from tests.integrations.tiny_stable_diffusion import SCHEDULE, SIDE, run, tiny_pipeline


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@torch.no_grad()
def by_hand(pipeline, scale_at, prompts=("a b c",), steps=6, seed=0):
    """Final latents of a plain loop with guidance scale_at(timestep, gaps so far), [B]."""
    embeds, negative = pipeline.encode_prompt(list(prompts), "cpu", 1, True)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(steps)
    x = torch.randn(len(prompts), 4, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    x, gaps = x * scheduler.init_noise_sigma, []
    schedule, prediction_type = schedule_from_scheduler(scheduler)
    for t in scheduler.timesteps:
        given = scheduler.scale_model_input(x, t)
        with_prompt = pipeline.unet(given, t, encoder_hidden_states=embeds).sample
        without = pipeline.unet(given, t, encoder_hidden_states=negative).sample
        factor = schedule.alpha[int(t)] if prediction_type == "v_prediction" else 1.0
        gaps.append(factor * (with_prompt - without).double().flatten(1).norm(dim=1).numpy())
        scale = torch.as_tensor(scale_at(float(t), np.array(gaps))).float().view(-1, 1, 1, 1)
        x = scheduler.step(without + scale * (with_prompt - without), t, x).prev_sample
    return x


def agree(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("until", "before"), [(500, 0.0), (650, -2.0), (0.5, 1.0)])
def test_delayed_guidance_is_the_loop_by_hand(pipeline, until, before):
    switch = 831 / 2 if until == 0.5 else until  # 831 is the first of the 6 timesteps
    expected = by_hand(pipeline, lambda t, gaps: [7.5 if t <= switch else before])
    with guided_by(pipeline, Delayed(until, 7.5, before)):
        agree(run(pipeline), expected)
        agree(run(pipeline, guidance_scale=3.0), expected)  # any scale above 1 will do: the rule's takes its place
    assert not torch.allclose(run(pipeline), expected, atol=1e-2)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_dynamic_transition_is_the_loop_by_hand(prediction_type):
    made = tiny_pipeline(1, prediction_type)
    for name, parameter in made.unet.named_parameters():
        if "time_emb" in name:
            parameter.data.mul_(6)  # so that gaps rise and fall
    prompts, seen = ["a b c", "d e", "f", "x y z"], []

    def scale_at(t, gaps):
        seen.append([len(argrelextrema(column, np.less)[0]) > 0 for column in gaps.T])
        return np.where(seen[-1], 4.0, 0.0)

    expected = by_hand(made, scale_at, prompts, steps=14)
    assert 0 < sum(seen[-1]) < 4, "in this test some images must switch and others not"
    with guided_by(made, {"name": "dynamic", "scale": 4.0}):
        for _ in range(2):  # a rule begins anew with every call
            agree(run(made, prompts, steps=14), expected)


@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "HeunDiscreteScheduler", "PNDMScheduler"])
def test_other_schedulers_are_guided_too(kind):
    made = tiny_pipeline()
    made.scheduler = getattr(diffusers, kind)(1000, **SCHEDULE)
    expected = by_hand(made, lambda t, gaps: [5.0 if t <= 600 else 0.0])
    with guided_by(made, Delayed(600, 5.0)):
        agree(run(made), expected)
    with guided_by(made, DynamicTransition(5.0, latest=0.2)):
        assert torch.isfinite(run(made)).all()


def test_a_rule_that_never_waits_changes_no_bit_and_leaves_nothing_behind(pipeline):
    plain = run(pipeline)
    with guided_by(pipeline, Delayed(1000, 7.5)):
        assert torch.equal(run(pipeline), plain)
    with pytest.raises(RuntimeError, match="stop"), guided_by(pipeline, 0.0):
        raise RuntimeError("stop")
    assert torch.equal(run(pipeline), plain)


def test_the_pipelines_own_scale_cannot_do_it(pipeline):
    """Why guided_by does not set ``_guidance_scale`` in a callback: the pipeline reads 0 there as "no guidance"."""

    def switch(pipe, index, timestep, given):
        pipe._guidance_scale = 0.0
        return given

    with pytest.raises(RuntimeError):
        run(pipeline, prompt=["a", "b"], callback_on_step_end=switch)


def test_guidance_that_cannot_be_given_is_refused_in_words(pipeline):
    with guided_by(pipeline, Delayed(500, 7.5)):
        with pytest.raises(InputError, match="guidance_scale: expected above 1"):
            run(pipeline, guidance_scale=1.0)
        with pytest.raises(InputError, match=r"guidance_rescale: expected 0, received 0\.5"):
            run(pipeline, guidance_rescale=0.5)
    with pytest.raises(InputError, match="expected a diffusers pipeline with a unet"), guided_by(object(), 1.0):
        pass


def gap_by_hand(pipeline, latents, embeds):
    """Difference of the noise estimates at the first of 6 steps, latents in the scheduler's scale."""
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(6)
    t = scheduler.timesteps[0]
    negative = pipeline.encode_prompt([""] * len(latents), "cpu", 1, False)[0].detach()
    given = scheduler.scale_model_input(latents * scheduler.init_noise_sigma, t)
    with_prompt = pipeline.unet(given, t, encoder_hidden_states=embeds).sample
    without = pipeline.unet(given, t, encoder_hidden_states=negative).sample
    factor = schedule_from_scheduler(scheduler)[0].alpha[int(t)] if "v_" in scheduler.config.prediction_type else 1.0
    return factor * (with_prompt - without)


def generator():
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "euler"])
def test_the_prompt_is_that_of_adamw_by_hand(kind):
    made = tiny_pipeline(0, "v_prediction" if kind == "v_prediction" else "epsilon")
    if kind == "euler":
        made.scheduler = diffusers.EulerDiscreteScheduler(1000, **SCHEDULE)
    found = optimise_prompt(
        made, "a b c", target_loss=None, iterations=4, norm="batch", images=3, steps=6, generator=generator()
    )
    latents = torch.randn(3, 4, SIDE, SIDE, generator=generator())
    assert torch.equal(found.latents, latents)
    start = made.encode_prompt("a b c", "cpu", 1, False)[0].detach()
    value = start.clone().requires_grad_()
    optimizer, losses = torch.optim.AdamW([value], lr=0.05), []
    for _ in range(4):
        loss = gap_by_hand(made, latents, value.expand(3, -1, -1)).norm()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        value.grad[:, 0] = 0
        optimizer.step()
        with torch.no_grad():
            value[:, 0] = start[:, 0]  # AdamW's decay goes on without a gradient
    torch.testing.assert_close(found.prompt_embeds, value.detach().expand(3, -1, -1), rtol=1e-3, atol=1e-4)
    assert torch.equal(found.prompt_embeds[:, 0], start[:, 0].expand(3, -1))
    assert not torch.equal(found.prompt_embeds[:, 1:], start[:, 1:].expand(3, -1, -1))
    assert float(found.descent.first_loss[0]) == pytest.approx(losses[0], rel=1e-4)
    assert float(found.descent.loss[0]) < losses[0]


def test_each_image_has_its_own_prompt_and_stop(pipeline):
    given = {"images": 2, "steps": 6}
    untouched = optimise_prompt(pipeline, ["a b", "x"], target_loss=1e9, generator=generator(), **given)
    assert untouched.descent.iterations.tolist() == [0, 0, 0, 0]
    target = float(untouched.descent.loss.median()) * 1.001
    found = optimise_prompt(pipeline, ["a b", "x"], target_loss=target, generator=generator(), **given)
    stayed = untouched.descent.loss <= target
    assert 0 < int(stayed.sum()) < 4
    for row in range(4):
        assert torch.equal(found.prompt_embeds[row], untouched.prompt_embeds[row]) == bool(stayed[row])
    assert (found.descent.loss <= untouched.descent.loss).all()


def test_prepared_arguments_untouched_are_the_pipelines_own(pipeline):
    prepared = optimise_prompt(pipeline, "a b c", target_loss=1e9, steps=6, generator=generator())
    torch.testing.assert_close(run(pipeline, **prepared.arguments), run(pipeline, generator=generator()))


@pytest.mark.parametrize("kind", ["ddim", "euler"])
def test_the_latents_are_those_of_adam_by_hand(kind):
    made = tiny_pipeline()
    if kind == "euler":
        made.scheduler = diffusers.EulerDiscreteScheduler(1000, **SCHEDULE)
    found = optimise_latents(made, "a b c", threshold=None, iterations=3, images=2, steps=6, generator=generator())
    embeds = made.encode_prompt("a b c", "cpu", 2, False)[0].detach()
    value = torch.randn(2, 4, SIDE, SIDE, generator=generator()).requires_grad_()
    optimizer, losses = torch.optim.Adam([value], lr=0.05), []
    for _ in range(3):
        direction = gap_by_hand(made, value, embeds)
        unit = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        loss = gap_by_hand(made, value + unit, embeds).flatten(1).norm(dim=1) + 0.05 * value.flatten(1).norm(dim=1)
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    torch.testing.assert_close(found.latents, value.detach(), rtol=1e-3, atol=2e-4)
    assert (found.descent.loss < losses[0]).all()
    assert torch.isfinite(run(made, **found.arguments)).all()


def test_half_precision_is_optimised_in_float32_and_given_back_in_half():
    made = tiny_pipeline().to(torch.bfloat16)
    found = optimise_prompt(made, "a b c", target_loss=None, iterations=3, steps=6, generator=generator())
    assert found.prompt_embeds.dtype == torch.bfloat16
    assert found.descent.values.dtype == torch.float32
    assert (found.descent.loss < found.descent.first_loss).all()
    assert torch.isfinite(run(made, **found.arguments).float()).all()


def test_a_wrong_shape_of_latents_is_refused_in_words(pipeline):
    with pytest.raises(InputError, match=r"latents: expected shape \[1, 4, 16, 16\], received shape \[2, 4, 16, 16\]"):
        optimise_latents(pipeline, "a", threshold=1.0, latents=torch.zeros(2, 4, SIDE, SIDE))


@pytest.mark.parametrize("kind", ["xl", "none"])
@pytest.mark.parametrize("work", [optimise_prompt, optimise_latents])
def test_pipelines_with_further_embeddings_are_refused_in_words(pipeline, kind, work):
    class XL(diffusers.StableDiffusionPipeline):
        def encode_prompt(self, prompt, prompt_2=None, device=None, **options):
            raise AssertionError("not to be called")

    parts = {**pipeline.components, "requires_safety_checker": False}
    made = XL(**parts) if kind == "xl" else diffusers.DDPMPipeline(pipeline.unet, pipeline.scheduler)
    limit = {"target_loss": 1.0} if work is optimise_prompt else {"threshold": 1.0}
    with pytest.raises(InputError, match="prompts are one embedding each: Stable Diffusion 1 or 2, received"):
        work(made, "a", **limit)


def test_a_first_step_without_signal_still_tells_the_prompt():
    made = tiny_pipeline(0, "v_prediction")
    made.scheduler = diffusers.DDIMScheduler(
        1000, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction", **SCHEDULE
    )
    found = optimise_prompt(made, "a b c", target_loss=None, iterations=3, images=2, steps=6, generator=generator())
    embeds, negative = made.encode_prompt("a b c", "cpu", 2, True)
    latents = torch.randn(2, 4, SIDE, SIDE, generator=generator())
    with torch.no_grad():
        with_prompt, without = (made.unet(latents, 999, one).sample for one in (embeds, negative))
    # v = -x0 at alpha = 0.
    expected = (with_prompt - without).flatten(1).norm(dim=1).double()
    torch.testing.assert_close(found.descent.first_loss, expected, rtol=1e-4, atol=0)
    assert (found.descent.loss < found.descent.first_loss).all()
