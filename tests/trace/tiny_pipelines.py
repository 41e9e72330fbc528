"""Today's pipelines with a few thousand random weights, built from configurations without a download."""

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    FlowMatchEulerDiscreteScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.trace.tiny_pipeline import tiny_pipeline, tokenizer

WIDTH = 16


def text_encoder(kind, words, **options):
    return kind(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=12, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
            projection_dim=WIDTH, **options,
        )
    ).eval()  # fmt: skip


def vae(channels=4, **options):
    return AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, sample_size=16, **options,
    ).eval()  # fmt: skip


def sdxl(folder, scheduler=None, **vae_options):
    """Two text encoders, pooled embeddings and sizes as further conditions."""
    torch.manual_seed(0)
    words, base = tokenizer(folder), tiny_pipeline(folder)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=2 * WIDTH,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4, norm_num_groups=4, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    ).eval()  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=vae(**vae_options), text_encoder=text_encoder(CLIPTextModel, words), tokenizer=words, tokenizer_2=words,
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, words), unet=unet,
        scheduler=scheduler or base.scheduler, add_watermarker=False,
    )  # fmt: skip


def sd3(folder, scheduler=None, **options):
    """Flow matching: a transformer, three text encoders (the third one left out), a VAE with a shift."""
    torch.manual_seed(0)
    words = tokenizer(folder)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=2 * WIDTH, out_channels=4,
        pos_embed_max_size=16,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=scheduler or FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(shift_factor=0.0609, scaling_factor=1.5305), tokenizer=words, tokenizer_2=words, tokenizer_3=None,
        text_encoder=text_encoder(CLIPTextModelWithProjection, words), text_encoder_3=None,
        text_encoder_2=text_encoder(CLIPTextModelWithProjection, words), **options,
    )  # fmt: skip


def controlnet(folder):
    """A Stable Diffusion pipeline with a ControlNet that really adds something."""
    base = tiny_pipeline(folder)
    torch.manual_seed(1)
    control = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(16, 32)).eval()
    with torch.no_grad():
        for name, parameter in control.named_parameters():
            if "controlnet_" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return StableDiffusionControlNetPipeline(
        vae=base.vae, text_encoder=base.text_encoder, tokenizer=base.tokenizer, unet=base.unet, controlnet=control,
        scheduler=base.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def pixart(folder):
    """A transformer that also predicts a variance; embeddings in the place of T5."""
    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4,
        out_channels=8, cross_attention_dim=16, caption_channels=WIDTH, use_additional_conditions=False,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter))
    return PixArtAlphaPipeline(
        tokenizer=None, text_encoder=None, vae=vae(), transformer=transformer, scheduler=tiny_pipeline(folder).scheduler
    )
