"""A Stable Diffusion pipeline of a few thousand weights, made from configurations: nothing is downloaded."""

import string

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TOKENS, WIDTH, SIDE = 12, 16, 16
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def tiny_pipeline(seed=0, prediction_type="epsilon"):
    """The pipeline; its words are single letters."""
    torch.manual_seed(seed)
    letters = [*string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase)]
    words = {token: number for number, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    first, last = words["<|startoftext|>"], words["<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab=words, merges=[], model_max_length=TOKENS)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=TOKENS, bos_token_id=first, eos_token_id=last, pad_token_id=last,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=SIDE, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=WIDTH,
        attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    for name, parameter in unet.named_parameters():
        if "attn2" in name and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.5)  # as initialised, the prompt hardly matters
    vae = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        1000, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction_type, **SCHEDULE
    )
    pipeline = StableDiffusionPipeline(
        vae, text.eval(), tokenizer, unet.eval(), scheduler, None, None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run(pipeline, prompt="a b c", steps=6, seed=0, **options):
    """Final latents of a call of the pipeline."""
    options.setdefault("guidance_scale", 7.5)
    options.setdefault("generator", torch.Generator().manual_seed(seed))
    prompts = {} if "prompt_embeds" in options else {"prompt": prompt}
    return pipeline(**prompts, num_inference_steps=steps, output_type="latent", **options).images
