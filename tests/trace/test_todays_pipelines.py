"""Traces of today's pipelines, each against the scheduler and the network called by hand, and faults that stay gone."""

import functools
import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

import diffusers

from memfast import trace
from memfast.foundation.errors import InputError
from memfast.schedules.diffusers import SchedulerLevels
from memfast.trace.subjects.latents import Latents
from tests.trace.tiny_pipeline import tiny_pipeline
from tests.trace.tiny_pipelines import controlnet, pixart, sd3, sdxl, vae

SEEDS, STEPS = [0, 4], 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def targets():
    return [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (11, 12)]


def traced(pipe, targets, prompts=("a b", "cde f"), **options):
    given = {"seeds": SEEDS, "steps": STEPS, "guidance": 3.0, "targets": targets[: len(prompts)], **options}
    return trace.trace_pipeline(pipe, prompts=list(prompts), **given)


def generators():
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


def own(pipe, prompt="cde f", **options):
    """The pipeline's own call with the seeds' generators."""
    given = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "generator": generators(), **options}
    return pipe([prompt] * len(SEEDS), output_type="latent", **given).images


def noise():
    return torch.cat([torch.randn(1, 4, 8, 8, generator=one) for one in generators()])


# Noise that schedulers add (eta, DDPM, LCM, SDE solvers).

STOCHASTIC = {
    "ddim eta": (lambda config: diffusers.DDIMScheduler.from_config(config), {"eta": 1.0}),
    "ddpm": (lambda config: diffusers.DDPMScheduler.from_config(config), {}),
    "lcm": (lambda config: diffusers.LCMScheduler.from_config(config), {}),
    "sde": (
        lambda config: diffusers.DPMSolverMultistepScheduler.from_config(config, algorithm_type="sde-dpmsolver++"),
        {},
    ),
}


@pytest.mark.parametrize("kind", STOCHASTIC)
def test_noise_that_schedulers_add_is_that_of_the_seeds(folder, targets, kind):
    pipe = tiny_pipeline(folder)
    make, options = STOCHASTIC[kind]
    pipe.scheduler = make(pipe.scheduler.config)
    found = traced(pipe, targets, detectors=[], **options)
    torch.testing.assert_close(found.samples[2:], own(pipe, **options), rtol=1e-5, atol=1e-5)
    assert torch.equal(traced(pipe, targets, detectors=[], **options).samples, found.samples)


def test_eta_and_one_generator_reach_the_scheduler(folder, targets):
    pipe = tiny_pipeline(folder)

    def draw(**options):
        generator = torch.Generator().manual_seed(9)
        return traced(pipe, targets, detectors=[], generator=generator, **options).samples

    assert not torch.allclose(draw(eta=1.0), draw(eta=0.0), atol=1e-2)
    assert torch.equal(draw(eta=1.0), draw(eta=1.0))
    pipe.scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    assert torch.equal(draw(), draw())


# Runs that start without signal.


def zero_snr(folder):
    return tiny_pipeline(
        folder, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        set_alpha_to_one=True,
    )  # fmt: skip


class FirstCall(Exception):
    pass


def first_outputs(pipe, prompt, guidance=3.0):
    """The network's two outputs at the first state, float64, caught from a call of the pipeline itself."""
    caught = []
    network = pipe.unet if hasattr(pipe, "unet") else pipe.transformer

    def catch(_module, _arguments, output):
        caught.append((output[0] if isinstance(output, tuple) else output.sample).double())
        raise FirstCall

    hook = network.register_forward_hook(catch)
    try:
        with pytest.raises(FirstCall):
            own(pipe, prompt, guidance_scale=guidance, latents=noise())
    finally:
        hook.remove()
    return caught[0].chunk(2)


@pytest.mark.parametrize("kind", ["sd3", "zero snr"])
def test_a_run_that_starts_without_signal_tells_what_its_first_state_tells(folder, targets, kind):
    pipe = sd3(folder) if kind == "sd3" else zero_snr(folder)
    found = traced(pipe, targets)
    assert found.alpha[0] == 0.0
    mean = torch.stack(targets).double().mean(0).flatten()
    for place, entry in enumerate(found.conditions):
        without, within = first_outputs(pipe, ("a b", "cde f")[place])
        x_t = noise().double()
        # v = alpha noise - sigma x0 and flow = noise - x0: at alpha = 0, where x_t is the noise.
        clean = {
            "unconditional": x_t - without if kind == "sd3" else -without,
            "conditional": x_t - within if kind == "sd3" else -within,
        }
        clean["guided"] = clean["unconditional"] + 3.0 * (clean["conditional"] - clean["unconditional"])
        x = targets[place].double().flatten()
        for name, estimate in clean.items():
            error = (estimate.flatten(1) - x).square().sum(1).mean()
            assert getattr(entry.loss, name)[0] == pytest.approx(float(error), rel=1e-4)
            cosine = torch.nn.functional.cosine_similarity(estimate.flatten(1), x[None]).mean()
            assert getattr(entry.alignment_target, name)[0] == pytest.approx(float(cosine), abs=1e-4)
            assert len(getattr(entry.loss, name)) == STEPS
        gap = (clean["conditional"] - clean["unconditional"]).flatten(1).norm(dim=1)
        assert entry.branch_gap[0] == pytest.approx(float(gap.mean()), rel=1e-3)
        assert entry.detectors["wen_first"] == pytest.approx(float(gap.mean()), rel=1e-3)
        lean = (clean["guided"].flatten(1) - mean) @ (x - mean) / (x - mean).square().sum()
        assert entry.overestimation == pytest.approx(float(lean.mean()), rel=1e-3, abs=1e-4)
        # The noised target at alpha = 0 is the noise itself.
        error = (clean["conditional"].flatten(1) - x).square().mean()
        assert entry.normalised_loss == pytest.approx(float(error.sqrt()), rel=1e-3)
    scores = [entry.detectors for entry in found.conditions]
    for name in ("wen", "wen_first", "jeon", "hintersdorf"):
        assert scores[0][name] != scores[1][name]
        assert all(0 < score[name] < (1 if name == "hintersdorf" else np.inf) for score in scores)


def test_a_run_of_memfast_on_a_flow_schedule(tmp_path):
    from memfast import models, schedules
    from memfast.sampling import SamplingRequest, ddim
    from memfast.trace.measure import BatchObserver

    torch.manual_seed(0)
    network = models.build({"kind": "mlp", "item_shape": (1, 6, 6), "width": 16, "blocks": 1, "num_classes": 2})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    goals = torch.randn(2, 1, 6, 6)
    observer = BatchObserver(["a", "b"], [0, 1], goals)
    labels = torch.tensor([0, 0, 1, 1])
    ddim(
        network, schedules.flow(100), shape=(1, 6, 6), sample_ids=torch.tensor([0, 1, 0, 1]), labels=labels, steps=5,
        guidance=2.0, prediction_type="flow_prediction", callback=observer,
    )  # fmt: skip
    statistics = observer.result().statistics
    for name in ("loss_guided", "loss_conditional", "target_unconditional", "gap"):
        series = statistics.series(name)
        assert series.shape == (5, 2, 2)
        assert np.isfinite(series).all()
    assert (statistics.series("gap")[0] > 0).all()
    assert SamplingRequest.steps is None


@pytest.mark.parametrize("switched", ["on", "off"])
def test_guidance_switched_on_or_off_mid_run_keeps_states_in_their_places(folder, targets, switched):
    pipe = tiny_pipeline(folder)

    def switch(pipeline, index, timestep, given):
        if index == 1:
            on = switched == "on"
            pipeline._guidance_scale = 3.0 if on else 1.0
            prompts, negative = caught
            given["prompt_embeds"] = torch.cat([negative, prompts]) if on else prompts
        return given

    caught = [one.repeat(2, 1, 1) for one in pipe.encode_prompt("a b", "cpu", 1, True)]
    options = {
        "callback_on_step_end": switch, "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"],
        "guidance": 1.0 if switched == "on" else 3.0,
    }  # fmt: skip
    found = traced(pipe, targets, prompts=["a b"], **options).conditions[0]
    known = [value is not None for value in found.loss.unconditional]
    assert known == ([False, False, True, True] if switched == "on" else [True, True, False, False])
    assert len(found.loss.guided) == len(found.loss.conditional) == len(found.branch_gap) == STEPS
    assert None not in found.loss.guided
    if switched == "off":
        assert found.detectors["wen"] == pytest.approx(np.mean([found.branch_gap[:2]]), rel=1e-6)


# What the scheduler goes by.

CLIPPING = {
    "clipped": {"clip_sample": True, "clip_sample_range": 0.7},
    "thresholded": {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.0},
}


@pytest.mark.parametrize("how", CLIPPING)
@pytest.mark.parametrize("kind", ["DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"])
def test_the_guided_estimate_is_the_one_that_the_sampler_uses(folder, targets, kind, how):
    pipe = tiny_pipeline(folder)
    pipe.scheduler = getattr(diffusers, kind).from_config({**pipe.scheduler.config, **CLIPPING[how]})
    step, used = pipe.scheduler.step, []

    @functools.wraps(step)
    def spy(output, timestep, sample, **options):
        result = step(output, timestep, sample, **{**options, "return_dict": True})
        solver = hasattr(pipe.scheduler, "model_outputs")
        used.append(pipe.scheduler.model_outputs[-1] if solver else result.pred_original_sample)
        return (result.prev_sample,)

    expected = []
    pipe.scheduler.step = spy
    own(pipe, "a b")
    pipe.scheduler.step = step
    expected = [(one.double() - targets[0].double()).flatten(1).square().sum(1).mean() for one in used]
    found = traced(pipe, targets, prompts=["a b"], detectors=[]).conditions[0]
    np.testing.assert_allclose(found.loss.guided, expected, rtol=1e-4)


def test_keys_of_other_schedulers_in_a_configuration_clip_nothing(folder, targets):
    pipe = tiny_pipeline(folder)
    plain, carried = (
        diffusers.DPMSolverMultistepScheduler.from_config({**pipe.scheduler.config, **more})
        for more in ({}, {"clip_sample": True})
    )
    assert carried.config.clip_sample is True
    losses = []
    for pipe.scheduler in (plain, carried):
        losses.append(traced(pipe, targets, prompts=["a b"], detectors=[]).conditions[0].loss.guided)
    assert losses[0] == losses[1]


LEVELS = {
    "karras": {"use_karras_sigmas": True},
    "lu": {"use_lu_lambdas": True},
    "exponential": {"use_exponential_sigmas": True},
    "flow": {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"},
}


@pytest.mark.parametrize("how", LEVELS)
def test_levels_are_those_of_the_solvers_sigmas(folder, targets, how):
    pipe = tiny_pipeline(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config({**pipe.scheduler.config, **LEVELS[how]})
        found = traced(pipe, targets, prompts=["a b"], detectors=[], keep_states=True)
    sigmas = pipe.scheduler.sigmas.double()
    size = (1 + sigmas**2).sqrt()
    alpha, sigma = (1 - sigmas, sigmas) if how == "flow" else (1 / size, sigmas / size)
    np.testing.assert_allclose(found.alpha, alpha, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.sigma, sigma, rtol=1e-5, atol=1e-7)
    assert found.source.prediction_type == pipe.scheduler.config.prediction_type
    # The first order step of the solver: x' = (sigma' / sigma) x + (alpha' - alpha sigma' / sigma) x0.
    ratio = float(sigma[1] / sigma[0])
    x0 = (found.states[1].double() - ratio * found.states[0].double()) / float(alpha[1] - alpha[0] * ratio)
    loss = (x0 - targets[0].double()).flatten(1).square().sum(1).mean()
    assert found.conditions[0].loss.guided[0] == pytest.approx(float(loss), rel=1e-3)


@pytest.mark.parametrize("kind", ["LCMScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"])
def test_the_last_level_is_that_of_the_finished_sample(folder, targets, kind):
    pipe = tiny_pipeline(folder)
    pipe.scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config)
    found = traced(pipe, targets, prompts=["a b"], detectors=[])
    if kind == "PNDMScheduler":
        expected = float(pipe.scheduler.final_alpha_cumprod)
    else:
        expected = 1.0 if kind == "LCMScheduler" else 1 / (1 + float(pipe.scheduler.sigmas[-1]) ** 2)
    assert found.alpha_bar[-1] == pytest.approx(expected, rel=1e-6)


# Runs that begin or end elsewhere.


def test_a_run_that_ends_early_is_refused(folder, targets):
    pipe = tiny_pipeline(folder)

    def interrupt(pipeline, index, timestep, given):
        pipeline._interrupt = index >= 1
        return given

    with pytest.raises(InputError, match="expected a run over all 4 timesteps of its scheduler, received 2 steps"):
        traced(pipe, targets, detectors=[], callback_on_step_end=interrupt)
    with pytest.raises(InputError, match="expected a run over all 4 timesteps of its scheduler, received 2 steps"):
        traced(sdxl(folder), targets, detectors=[], denoising_end=0.5)


def test_a_run_that_starts_elsewhere_is_refused(folder, targets):
    base = tiny_pipeline(folder)
    image = diffusers.StableDiffusionImg2ImgPipeline(**base.components, requires_safety_checker=False)
    with pytest.raises(InputError, match=r"pipe: expected a text-to-image pipeline.*StableDiffusionImg2ImgPipeline"):
        traced(image, targets)

    class Shifted(diffusers.StableDiffusionPipeline):
        def prepare_latents(self, *arguments, **options):
            return super().prepare_latents(*arguments, **options) + 1.0

    with pytest.raises(InputError, match="expected a run that starts from the latents"):
        traced(Shifted(**base.components, requires_safety_checker=False), targets)


# The VAE.


def test_a_vae_that_overflows_in_float16_is_used_in_float32(folder):
    pipe = sdxl(folder, force_upcast=True)
    with torch.no_grad():
        # float16 holds the weights, but not what they make; the normalization behind takes the size out again.
        pipe.vae.decoder.conv_in.weight.mul_(2e5)
        pipe.vae.decoder.conv_in.bias.mul_(2e5)
    samples = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = Latents(pipe).decode(samples)
    pipe = pipe.to(torch.float16)
    before = [parameter.detach().clone() for parameter in pipe.vae.parameters()]
    assert all(torch.isfinite(one).all() for one in before)
    assert np.abs(Latents(pipe).decode(samples).astype(int) - expected).max() <= 2
    assert all(torch.equal(a, b) for a, b in zip(before, pipe.vae.parameters(), strict=True))
    assert pipe.vae.dtype == torch.float16
    pipe.vae.register_to_config(force_upcast=False)
    with pytest.raises(InputError, match=r"decoded samples: expected finite values.*VAE in torch\.float16"):
        Latents(pipe).decode(samples)


def test_latents_are_scaled_by_the_vaes_mean_and_deviation(folder):
    pipe = tiny_pipeline(folder)
    mean, deviation = [0.5, -1.0, 2.0, 0.25], [1.5, 0.5, 2.0, 3.0]
    pipe.register_modules(vae=vae(latents_mean=mean, latents_std=deviation, scaling_factor=0.5))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    latents = Latents(pipe)
    found = latents.encode("x", pixels)
    with torch.no_grad():
        raw = pipe.vae.encode(torch.tensor(pixels).permute(2, 0, 1)[None] / 127.5 - 1).latent_dist.mean[0]
    m, s = (torch.tensor(one).view(4, 1, 1) for one in (mean, deviation))
    torch.testing.assert_close(found, (raw - m) * 0.5 / s)
    with torch.no_grad():
        image = pipe.vae.decode((found * s / 0.5 + m)[None]).sample[0]
    expected = ((image + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0)
    assert np.abs(latents.decode(found[None])[0].astype(int) - expected.numpy()).max() <= 1


# The network asked about other states.


def test_the_residuals_of_a_controlnet_follow_the_state(folder, targets):
    pipe = controlnet(folder)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    entry = traced(pipe, targets, prompts=["a b"], image=image).conditions[0]
    first, bar = int(pipe.scheduler.timesteps[0]), pipe.scheduler.alphas_cumprod[int(pipe.scheduler.timesteps[0])]
    embedded, negative = (one.repeat(2, 1, 1) for one in pipe.encode_prompt("a b", "cpu", 1, True))

    def network(x, prompts):
        shown = pipe.prepare_image(image, 16, 16, len(x), 1, torch.device("cpu"), x.dtype)
        down, middle = pipe.controlnet(x, first, prompts, shown, return_dict=False)
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return pipe.unet(x, first, prompts, **residuals).sample

    with torch.no_grad():
        noised = bar.sqrt() * targets[0] + (1 - bar).sqrt() * noise()
        error = (network(noised, embedded) - noise()).double().square().mean()
    expected = (error * (1 - bar.double()) / bar.double()).sqrt()
    assert entry.normalised_loss == pytest.approx(float(expected), rel=1e-4)
    # In float64, where a difference quotient has the digits.
    for one in (pipe.controlnet, pipe.unet):
        one.double()
    embedded, negative, image, x, small = embedded.double(), negative.double(), image.double(), noise().double(), 1e-4
    with torch.no_grad():
        direction = network(x, embedded) - network(x, negative)
        ahead, behind = (
            network(x + sign * small * direction, embedded) - network(x + sign * small * direction, negative)
            for sign in (1, -1)
        )
    product = ((ahead - behind) / (2 * small)).flatten(1).norm(dim=1) / (1 - bar)
    assert entry.detectors["jeon"] == pytest.approx(float(product.mean()), rel=5e-2)


def test_sharpness_is_computed_in_float32_whatever_the_pipelines_dtype(folder, targets):
    half = tiny_pipeline(folder, dtype=torch.bfloat16)
    names = [name for name, _ in half.unet.named_parameters()]
    before = [parameter.detach().clone() for parameter in half.unet.parameters()]
    found = traced(half, targets, prompts=["a b"], detectors=["jeon"]).conditions[0].detectors["jeon"]
    assert half.unet.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(before, half.unet.parameters(), strict=True)), names
    # By hand: the same weights, prompts and first state in float32, and a difference quotient.
    embedded, negative = (one.float().repeat(2, 1, 1) for one in half.encode_prompt("a b", "cpu", 1, True))
    whole = tiny_pipeline(folder).unet
    whole.load_state_dict({name: value.float() for name, value in half.unet.state_dict().items()})
    x = torch.cat([torch.randn(1, 4, 8, 8, generator=one, dtype=torch.bfloat16) for one in generators()])
    first = int(half.scheduler.timesteps[0])
    with torch.no_grad():
        without, within = half.unet(
            torch.cat([x, x]), first, torch.cat([negative, embedded]).bfloat16()
        ).sample.float().chunk(2)  # fmt: skip
        direction, small = within - without, 1e-2

        def difference(x):
            return whole(x, first, embedded).sample - whole(x, first, negative).sample

        quotient = difference(x.float() + small * direction) - difference(x.float() - small * direction)
    product = (quotient / (2 * small)).flatten(1).norm(dim=1) / (1 - half.scheduler.alphas_cumprod[first])
    assert found == pytest.approx(float(product.mean()), rel=2e-2)


def test_a_word_of_several_vectors_counts_as_several_tokens(folder):
    from memfast.detectors.attention_capture import prompt_tokens

    pipe = tiny_pipeline(folder)
    plain = prompt_tokens(pipe, ["a q b"])
    pipe.load_textual_inversion({"<q>": torch.randn(3, 16)}, token="<q>")
    assert prompt_tokens(pipe, ["a <q> b"]).tolist() == [int(plain[0]) + 2]


# Further pipelines, and what is refused.


def test_sdxl_is_traced_as_it_samples(folder, targets):
    pipe = sdxl(folder)
    found = traced(pipe, targets)
    torch.testing.assert_close(found.samples[2:], own(pipe), rtol=1e-4, atol=1e-4)
    assert set(found.conditions[0].detectors) == {"wen", "wen_first", "jeon", "hintersdorf"}


@pytest.mark.parametrize("kind", [sdxl, sd3])
def test_embeddings_with_pooled_ones_are_the_prompts(folder, targets, kind):
    pipe = kind(folder)
    by_text = traced(pipe, targets)
    prompts = {"prompt": ["a b", "cde f"], "prompt_2": None} | ({"prompt_3": None} if kind is sd3 else {})
    with torch.no_grad():
        embedded, negative, pooled, negative_pooled = pipe.encode_prompt(**prompts)
    options = {"seeds": SEEDS, "steps": STEPS, "guidance": 3.0, "targets": targets, "negative": negative[:1]}
    found = trace.trace_pipeline(
        pipe, prompts=embedded, pooled_prompt_embeds=pooled, negative_pooled_prompt_embeds=negative_pooled, **options
    )
    torch.testing.assert_close(found.samples, by_text.samples, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="pooled_prompt_embeds: expected beside embedded prompts"):
        trace.trace_pipeline(pipe, prompts=embedded, **options)


def test_pixart_is_traced_from_embeddings_without_its_variance(folder, targets):
    pipe = pixart(folder)
    embedded, negative = (torch.randn(rows, 6, 16, generator=torch.Generator().manual_seed(rows)) for rows in (2, 1))
    mask = torch.ones(2, 6)
    mask[1, 4:] = 0
    masks = {"prompt_attention_mask": mask, "negative_prompt_attention_mask": torch.ones(1, 6)}
    found = trace.trace_pipeline(
        pipe, prompts=embedded, negative=negative, seeds=SEEDS, steps=STEPS, guidance=3.0, targets=targets,
        use_resolution_binning=False, **masks,
    )  # fmt: skip
    masks = {"prompt_attention_mask": mask[[1, 1]], "negative_prompt_attention_mask": torch.ones(2, 6)}
    expected = pipe(
        prompt_embeds=embedded[1:].repeat(2, 1, 1), negative_prompt=None, num_inference_steps=STEPS, guidance_scale=3.0,
        negative_prompt_embeds=negative.repeat(2, 1, 1), generator=generators(), output_type="latent", height=16,
        width=16, use_resolution_binning=False, **masks,
    ).images  # fmt: skip
    torch.testing.assert_close(found.samples[2:], expected, rtol=1e-4, atol=1e-4)


def test_a_consistency_model_with_the_default_detectors(folder, targets):
    base = tiny_pipeline(folder)
    config = {**base.unet.config, "time_cond_proj_dim": 8}
    config.pop("_use_default_values")
    base.register_modules(unet=diffusers.UNet2DConditionModel.from_config(config).eval())
    base.scheduler = diffusers.LCMScheduler.from_config(base.scheduler.config)
    found = traced(base, targets, guidance=8.0).conditions[0]
    assert found.loss.unconditional is None
    assert found.detectors == {}
    with pytest.raises(InputError, match="detector wen: expected states with both branches of guidance"):
        traced(base, targets, guidance=8.0, detectors=["wen"])


@pytest.mark.parametrize("slicing", ["auto", 1])
def test_attention_slicing_changes_no_detector(folder, targets, slicing):
    pipe = tiny_pipeline(folder)
    options = {"detectors": ["ren", "ren_first", "bright_ending"], "prompts": ["a b"]}
    expected = traced(pipe, targets, **options).conditions[0].detectors
    pipe.enable_attention_slicing(slicing)
    found = traced(pipe, targets, **options).conditions[0].detectors
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_attention_of_the_text_beside_an_ip_adapter(folder, targets):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    pipe = tiny_pipeline(folder)
    options = {"detectors": ["ren_first"], "prompts": ["a b"]}
    plain = traced(pipe, targets, **options).conditions[0].detectors["ren_first"]
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8,
        projection_dim=16,
    )  # fmt: skip
    pipe.register_modules(image_encoder=CLIPVisionModelWithProjection(vision))
    layers = [
        pipe.unet.get_submodule(name.removesuffix(".processor"))
        for name in pipe.unet.attn_processors
        if name.endswith("attn2.processor")
    ]
    own = {
        f"{2 * number + 1}.to_{kind}_ip.weight": 0.0 * torch.randn(layer.to_k.out_features, 16)
        for number, layer in enumerate(layers)
        for kind in "kv"
    }
    projection = {
        "proj.weight": 0.1 * torch.randn(64, 16), "proj.bias": torch.zeros(64), "norm.weight": torch.ones(16),
        "norm.bias": torch.zeros(16),
    }  # fmt: skip
    state = {"image_proj": projection, "ip_adapter": own}
    pipe.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None)
    image = [torch.randn(2, 1, 16)]
    # Its values are 0: the network, and with it the text's attention, is that without the adapter.
    found = traced(pipe, targets, ip_adapter_image_embeds=image, **options).conditions[0].detectors["ren_first"]
    assert found == pytest.approx(plain, rel=1e-5)


def test_weights_that_accelerate_keeps_elsewhere(folder, targets):
    accelerate = pytest.importorskip("accelerate")
    pipe = tiny_pipeline(folder)
    expected = traced(pipe, targets).conditions[0]
    accelerate.cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    assert pipe.unet.device.type == "meta"
    found = traced(pipe, targets).conditions[0]
    assert found.d1 == pytest.approx(expected.d1, rel=1e-5)
    assert found.detectors["jeon"] == pytest.approx(expected.detectors["jeon"], rel=1e-4)


OPTIONS = [
    ({"num_images_per_prompt": 2}, "num_images_per_prompt: expected 1: each seed is an image, received 2"),
    ({"guidance_scale": 2.0}, "guidance_scale: expected none: a trace sets it"),
    ({"etta": 0.5}, "etta: expected an argument of StableDiffusionPipeline"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=range(len(OPTIONS)))
def test_arguments_of_the_call_that_do_not_fit(folder, targets, options, message):
    with pytest.raises(InputError, match=message):
        traced(tiny_pipeline(folder), targets, **options)


def stub(kind):
    """A pipeline of a class with the parts that a refusal looks at."""
    made = object.__new__(getattr(diffusers, kind))
    made.scheduler = diffusers.DDIMScheduler()
    return made


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("DDPMPipeline", "whose call takes no prompt"), ("DiTPipeline", "whose call takes no prompt"),
        ("FluxPipeline", "Flux"), ("CogVideoXPipeline", "CogVideoX"), ("AnimateDiffPipeline", "AnimateDiff"),
        ("KandinskyPipeline", "also needs image_embeds"), ("StableDiffusionInpaintPipeline", "Inpaint"),
    ],
)  # fmt: skip
def test_pipelines_of_another_form_are_refused_with_what_would_do(targets, kind, why):
    with pytest.raises(InputError, match=r"expected a text-to-image pipeline.*memfast\.trace\.decompose") as found:
        traced(stub(kind), targets)
    assert why in str(found.value)


def test_levels_need_a_scheduler_of_the_form():
    with pytest.raises(InputError, match="EulerDiscreteScheduler, whose states are"):
        SchedulerLevels(diffusers.EulerDiscreteScheduler())


@pytest.mark.parametrize("kind", [sdxl, controlnet])
def test_guidance_rules_and_attention_on_further_pipelines(folder, targets, kind):
    from memfast.integrations import guided_by
    from memfast.sampling import Delayed

    pipe, rule = kind(folder), Delayed(until=0.5, scale=4.0, before=-2.0)
    options = {"image": torch.rand(1, 3, 16, 16)} if kind is controlnet else {}
    found = traced(
        pipe, targets, guidance=rule, guided_by=guided_by, detectors=["wen", "ren", "bright_ending"], **options
    )
    with guided_by(pipe, rule):
        expected = own(pipe, guidance_scale=4.0, **options)
    torch.testing.assert_close(found.samples[2:], expected, rtol=1e-4, atol=1e-4)
    assert all(np.isfinite(value) for value in found.conditions[0].detectors.values())


@pytest.mark.parametrize("scale", [1.5, 7.5])
def test_branches_of_two_calls_are_told_apart_by_what_the_scheduler_gets(folder, scale):
    from memfast.trace.subjects.watching import PipelineWatch

    watch = PipelineWatch(tiny_pipeline(folder), noise(), None, scale)
    within, without = (torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(k)) for k in (1, 2))
    guided = without + scale * (within - without)
    for outputs in ([within, without], [without, within]):
        found = watch._branches(outputs, guided)
        assert torch.equal(found[0], within)
        assert torch.equal(found[1], without)
    watch._check_output(guided, within, without)
    with pytest.raises(InputError, match="expected a pipeline that passes its network's output on"):
        watch._check_output(-guided, within, without)
    with pytest.raises(InputError, match="called with 2 or 4 samples in each step, received 6"):
        watch._branches([torch.cat([within, without, within])], guided)
