"""A trace of a diffusers pipeline against a plain loop over its scheduler, written down independently."""

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from memfast import trace
from memfast.detectors.attention_capture import capture_attention
from memfast.foundation.errors import InputError
from memfast.integrations import guided_by
from memfast.sampling import Delayed
from memfast.trace.subjects.watching import watching
from tests.trace.tiny_pipeline import tiny_pipeline

PROMPTS, SEEDS, STEPS, GUIDANCE = ["a b", "cde f"], [0, 4], 5, 3.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def pipe(folder):
    return tiny_pipeline(folder)


@pytest.fixture(scope="module")
def targets():
    return [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (11, 12)]


@torch.no_grad()
def plain_loop(pipe, prompt, guidance=GUIDANCE):
    """DDIM by hand: the formulas of Song et al. 2021 and of guidance, from the network and alphas_cumprod alone."""
    embedded, negative = pipe.encode_prompt(prompt, "cpu", len(SEEDS), True)
    bars = pipe.scheduler.alphas_cumprod.double()
    stride = 1000 // STEPS
    timesteps = [stride * k + 1 for k in range(STEPS)][::-1]
    state = torch.cat([torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS])
    rows = []
    for timestep in timesteps:
        bar = bars[timestep]
        outputs = pipe.unet(torch.cat([state, state]), timestep, torch.cat([negative, embedded])).sample
        without, within = outputs.double().chunk(2)
        if pipe.scheduler.config.prediction_type == "v_prediction":
            without, within = (bar.sqrt() * v + (1 - bar).sqrt() * state.double() for v in (without, within))
        noise = without + guidance * (within - without)
        x0 = (state.double() - (1 - bar).sqrt() * noise) / bar.sqrt()
        rows.append({"state": state, "bar": float(bar), "x0": x0, "noise": noise, "c": within, "u": without})
        before = bars[timestep - stride] if timestep > stride else bars[0]
        state = (before.sqrt() * x0 + (1 - before).sqrt() * noise).float()
    return timesteps, rows, state


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_states_levels_and_estimates_equal_a_plain_loop(folder, targets, prediction):
    pipe = tiny_pipeline(folder, prediction_type=prediction)
    result = trace.trace_pipeline(
        pipe, prompts=PROMPTS, seeds=SEEDS, steps=STEPS, guidance=GUIDANCE, targets=targets, keep_states=True
    )
    content = result.to_dict()
    for place, prompt in enumerate(PROMPTS):
        timesteps, rows, final = plain_loop(pipe, prompt)
        entry, x = content["conditions"][place], targets[place].double().flatten()
        assert content["timesteps"] == [*timesteps, None]
        bars = [row["bar"] for row in rows] + [float(pipe.scheduler.alphas_cumprod[0])]
        np.testing.assert_allclose(content["alpha_bar"], bars, rtol=1e-6)
        z = rows[0]["state"].double().flatten(1)
        every = torch.stack([row["state"] for row in rows] + [final])
        own = slice(place * len(SEEDS), (place + 1) * len(SEEDS))
        torch.testing.assert_close(result.states[:, own], every, rtol=1e-4, atol=1e-4)
        found = trace.decompose(every, targets[place], rows[0]["state"])
        np.testing.assert_allclose(entry["w_target"]["mean"], found.w_target.mean(1), atol=1e-4)
        np.testing.assert_allclose(entry["w_initial"]["mean"], found.w_initial.mean(1), atol=1e-4)
        for number, row in enumerate(rows):
            alpha, sigma = row["bar"] ** 0.5, (1 - row["bar"]) ** 0.5
            noises = {"guided": row["noise"], "conditional": row["c"], "unconditional": row["u"]}
            for name, noise in noises.items():
                x0 = ((row["state"].double() - sigma * noise) / alpha).flatten(1)
                assert entry["loss"][name][number] == pytest.approx(float((x0 - x).square().sum(1).mean()), rel=1e-4)
                cosine = torch.nn.functional.cosine_similarity(x0, x[None]).mean()
                assert entry["alignment_target"][name][number] == pytest.approx(float(cosine), abs=1e-4)
                cosine = torch.nn.functional.cosine_similarity(noise.flatten(1), z).mean()
                assert entry["alignment_initial"][name][number] == pytest.approx(float(cosine), abs=1e-4)
            gap = (row["c"] - row["u"]).flatten(1).norm(dim=1).mean()
            assert entry["branch_gap"][number] == pytest.approx(float(gap), rel=1e-3)
        direction = x - torch.stack(targets).double().mean(0).flatten()
        lean = (rows[0]["x0"].flatten(1) - x + direction) @ direction / direction.square().sum()
        assert entry["overestimation"] == pytest.approx(float(lean.mean()), rel=1e-4, abs=1e-5)


def test_samples_are_those_of_the_pipeline_itself(pipe, targets):
    result = trace.trace_pipeline(pipe, prompts=PROMPTS, seeds=SEEDS, steps=STEPS, guidance=GUIDANCE, targets=targets)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    own = pipe(
        [PROMPTS[1]] * 2, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators, output_type="latent"
    ).images
    torch.testing.assert_close(result.samples[2:], own, rtol=1e-5, atol=1e-5)


def test_the_pipeline_is_left_as_it_was(pipe, targets):
    processors, bar = pipe.unet.attn_processors, getattr(pipe, "_progress_bar_config", None)
    trace.trace_pipeline(pipe, prompts=["a"], seeds=2, steps=2, targets=targets[:1], detectors=["ren", "wen"])
    assert "step" not in vars(pipe.scheduler)
    assert not pipe.unet._forward_hooks
    assert pipe.unet.attn_processors == processors
    assert getattr(pipe, "_progress_bar_config", None) == bar
    with pytest.raises(RuntimeError, match="stop"), watching(pipe, torch.zeros(1, 4, 8, 8), None):
        raise RuntimeError("stop")
    assert "step" not in vars(pipe.scheduler)
    own = pipe.scheduler.step = pipe.scheduler.step
    with watching(pipe, torch.zeros(1, 4, 8, 8), None):
        pass
    assert vars(pipe.scheduler).pop("step") is own


def test_normalised_loss_is_the_conditional_branch_on_the_noised_target(pipe, targets):
    entry = trace.trace_pipeline(pipe, prompts=PROMPTS, seeds=SEEDS, steps=STEPS, targets=targets).to_dict()[
        "conditions"
    ][0]
    noise = torch.cat([torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS])
    first = 1000 // STEPS * (STEPS - 1) + 1
    bar = pipe.scheduler.alphas_cumprod[first].double()
    with torch.no_grad():
        embedded, _ = pipe.encode_prompt(PROMPTS[0], "cpu", len(SEEDS), True)
        noised = (bar.sqrt() * targets[0] + (1 - bar).sqrt() * noise).float()
        estimate = pipe.unet(noised, first, embedded).sample
    loss = (estimate - noise).double().square().mean()
    assert entry["normalised_loss"] == pytest.approx(float((loss * (1 - bar) / bar).sqrt()), rel=1e-4)


def test_attention_is_that_of_the_layers_and_changes_nothing(pipe, targets):
    options = {"prompts": PROMPTS, "seeds": SEEDS, "steps": 3, "targets": targets}
    watched = trace.trace_pipeline(pipe, detectors=["ren", "ren_first", "bright_ending"], **options)
    plain = trace.trace_pipeline(pipe, detectors=[], **options)
    assert torch.equal(watched.samples, plain.samples)
    assert all(np.isfinite(value) for entry in watched.conditions for value in entry.detectors.values())


@pytest.mark.parametrize("detectors", [["ren_first"], ["jeon", "ren_first"]], ids=str)
def test_attention_is_of_the_state_not_of_another_question_to_the_network(pipe, targets, detectors):
    """The layer's entropy at the first state, from the network called by hand."""
    found = trace.trace_pipeline(
        pipe, prompts=PROMPTS, seeds=SEEDS, steps=STEPS, targets=targets, detectors=detectors, rows=len(SEEDS)
    )
    noise = torch.cat([torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS])
    for prompt, entry in zip(PROMPTS, found.to_dict()["conditions"], strict=True):
        embedded, _ = pipe.encode_prompt(prompt, "cpu", len(SEEDS), True)
        with torch.no_grad(), capture_attention(pipe.unet, guided=False) as capture:
            pipe.unet(noise, 1000 // STEPS * (STEPS - 1) + 1, embedded)
        shares = capture.layers[3].double().mean(1)
        entropy = float(-(shares * shares.log()).sum(1).mean())
        assert entry["detectors"]["ren_first"] == pytest.approx(entropy, rel=2e-6)


def test_detectors_need_both_branches(pipe, targets):
    with pytest.raises(InputError, match="in a pipeline also a guidance above 1"):
        trace.trace_pipeline(
            pipe, prompts=["a"], seeds=2, steps=2, guidance=1.0, targets=targets[:1], detectors=["ren_first"]
        )


@pytest.mark.parametrize("rule", [Delayed(until=0.5, scale=3.0, before=-2.0), Delayed(until=0.5, scale=1.0)])
def test_a_rule_guides_and_the_branches_are_the_networks_own(pipe, targets, rule):
    options = {"prompts": PROMPTS, "seeds": SEEDS, "steps": STEPS, "targets": targets}
    found = trace.trace_pipeline(pipe, guidance=rule, guided_by=guided_by, detectors=["wen", "jeon"], **options)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    with guided_by(pipe, rule):
        own = pipe(
            [PROMPTS[1]] * 2, num_inference_steps=STEPS, guidance_scale=3.0, generator=generators, output_type="latent"
        ).images
    torch.testing.assert_close(found.samples[2:], own, rtol=1e-5, atol=1e-5)
    assert found.to_dict()["sampler"]["guidance"] == rule.to_dict()
    plain = trace.trace_pipeline(pipe, guidance=GUIDANCE, detectors=["wen", "jeon"], **options)
    for entry, other in zip(found.to_dict()["conditions"], plain.to_dict()["conditions"], strict=True):
        assert entry["branch_gap"][0] == pytest.approx(other["branch_gap"][0], rel=1e-6)
        assert entry["detectors"]["jeon"] == pytest.approx(other["detectors"]["jeon"], rel=1e-6)
        assert entry["normalised_loss"] == pytest.approx(other["normalised_loss"], rel=1e-6)
        assert entry["loss"]["guided"][0] != pytest.approx(other["loss"]["guided"][0], rel=1e-3)
    assert not pipe.unet._forward_hooks


def test_guidance_one_leaves_the_unconditional_fields_empty(pipe, targets):
    entry = trace.trace_pipeline(
        pipe, prompts=["a"], seeds=SEEDS, steps=2, guidance=1.0, targets=targets[:1]
    ).to_dict()["conditions"][0]
    assert entry["branch_gap"] is None
    assert entry["loss"]["unconditional"] is None
    assert entry["loss"]["conditional"] == pytest.approx(entry["loss"]["guided"], rel=1e-5)
    assert entry["normalised_loss"] > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(folder, pipe, targets, dtype):
    half = tiny_pipeline(folder, dtype=dtype)
    options = {"prompts": PROMPTS, "seeds": SEEDS, "steps": 3, "targets": targets, "detectors": ["wen"]}
    found, exact = (trace.trace_pipeline(one, **options) for one in (half, pipe))
    for got, expected in zip(found.to_dict()["conditions"], exact.to_dict()["conditions"], strict=True):
        assert got["loss"]["guided"][0] == pytest.approx(expected["loss"]["guided"][0], rel=0.3)
        assert got["w_initial"]["mean"][0] == 1.0


@pytest.mark.parametrize("kind", [DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler])
def test_other_schedulers_of_the_same_form(folder, targets, kind):
    pipe = tiny_pipeline(folder)
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    content = trace.trace_pipeline(
        pipe, prompts=["a"], seeds=SEEDS, steps=6, guidance=2.0, targets=targets[:1], generator=torch.Generator()
    ).to_dict()
    bars = content["alpha_bar"]
    assert len(bars) == 7
    assert bars == sorted(bars)
    for timestep, bar in zip(content["timesteps"][:-1], bars, strict=False):
        assert bar == pytest.approx(float(pipe.scheduler.alphas_cumprod[timestep]), rel=1e-6)
    assert bars[-1] == pytest.approx(1.0)


def test_flow_matching_reads_its_sigmas(folder, targets):
    pipe = tiny_pipeline(folder, scheduler=FlowMatchEulerDiscreteScheduler())
    pipe.scheduler.init_noise_sigma = 1.0
    pipe.scheduler.scale_model_input = lambda sample, timestep: sample
    result = trace.trace_pipeline(
        pipe, prompts=["a"], seeds=SEEDS, steps=4, guidance=2.0, targets=targets[:1], detectors=[], keep_states=True
    )
    content = result.to_dict()
    sigmas = pipe.scheduler.sigmas.double().tolist()
    assert content["sigma"] == pytest.approx(sigmas)
    assert content["alpha"] == pytest.approx([1 - sigma for sigma in sigmas])
    # x0_hat of the first state, from Euler's rule: x' = x + (sigma' - sigma) v and x0 = x - sigma v.
    velocity = (result.states[1] - result.states[0]) / (sigmas[1] - sigmas[0])
    x0 = result.states[0] - sigmas[0] * velocity
    expected = float((x0 - targets[0]).double().flatten(1).square().sum(1).mean())
    assert content["conditions"][0]["loss"]["guided"][0] == pytest.approx(expected, rel=1e-4)


def test_images_are_targets_too(pipe):
    from PIL import Image

    pixels = np.random.Generator(np.random.Philox(1)).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with torch.no_grad():
        values = torch.tensor(pixels).permute(2, 0, 1)[None] / 127.5 - 1
        latent = pipe.vae.encode(values).latent_dist.mean[0] * pipe.vae.config.scaling_factor
    options = {"prompts": ["a"], "seeds": 2, "steps": 2, "guidance": 1.0}
    as_image, as_latent = (
        trace.trace_pipeline(pipe, targets=[one], **options).to_dict()["conditions"][0]
        for one in (Image.fromarray(pixels), latent)
    )
    assert as_image["d1"] == pytest.approx(as_latent["d1"], abs=1e-6)
    by_pixels = trace.trace_pipeline(
        pipe, targets=[pixels], features=("pixels", lambda images: images.reshape(len(images), -1) / 255.0), **options
    ).to_dict()["conditions"][0]["similarity"]
    assert by_pixels["name"] == "cosine of pixels"
    assert 0 < by_pixels["mean"] < 1


def test_embeddings_instead_of_prompts(pipe, targets):
    with torch.no_grad():
        embedded, negative = pipe.encode_prompt("a b", "cpu", 1, True)
    options = {"seeds": SEEDS, "steps": 3, "guidance": GUIDANCE, "targets": targets[:1]}
    by_text = trace.trace_pipeline(pipe, prompts=["a b"], **options)
    by_tensor = trace.trace_pipeline(pipe, prompts=embedded, negative=negative, names=["ab"], **options)
    torch.testing.assert_close(by_text.samples, by_tensor.samples, rtol=1e-5, atol=1e-5)
    assert by_tensor.to_dict()["conditions"][0]["name"] == "ab"


BAD = [
    ({"targets": None}, "target of 'a': expected a training item, received none"),
    ({"targets": [torch.zeros(4, 4, 4)]}, r"target of 'a': expected a latent \[4, 8, 8\] or an RGB image of 16 x 16"),
    ({"targets": [torch.zeros(4, 8, 8)]}, "target of 'a', seed 0: expected an item that is not parallel"),
    ({"prompts": "a"}, "prompts: expected a list of prompts"),
    ({"seeds": [[0], [1]], "prompts": ["a", "b"], "targets": [None] * 2}, "the same seeds for every condition"),
    ({"names": ["x", "y"]}, "names: expected 1, one per prompt"),
    ({"steps": 0}, "steps: expected a whole number from 1 to 1000, received 0"),
    ({"steps": 1001}, "steps: expected a whole number from 1 to 1000, received 1001"),
    ({"guidance": float("nan")}, "guidance: expected a finite scale"),
    ({"guidance": Delayed(until=0.5, scale=3.0)}, "guided_by: expected memfast.integrations.guided_by"),
    ({"detectors": ["jeon"], "guidance": 1.0}, "detector jeon: expected a trace with both branches"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(pipe, targets, change, message):
    options = {"prompts": ["a"], "seeds": 1, "steps": 2, "targets": targets[:1], **change}
    with pytest.raises(InputError, match=message):
        trace.trace_pipeline(pipe, **options)


def test_schedulers_of_another_form_are_refused(folder, targets):
    pipe = tiny_pipeline(folder)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(InputError, match=r"EulerDiscreteScheduler, whose states are x0 \+ sigma"):
        trace.trace_pipeline(pipe, prompts=["a"], targets=targets[:1])

    class Bare:
        pass

    pipe.scheduler = Bare()
    with pytest.raises(InputError, match="Bare, which has no alphas_cumprod"):
        trace.trace_pipeline(pipe, prompts=["a"], targets=targets[:1])


def test_a_diverged_run_names_its_prompt(folder, targets):
    pipe = tiny_pipeline(folder)
    with torch.no_grad():
        pipe.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(InputError, match=r"sample of 'a', seed 0: expected finite values.*timestep 501"):
        trace.trace_pipeline(pipe, prompts=["a"], seeds=1, steps=2, targets=targets[:1])
