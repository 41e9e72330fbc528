"""Adapters for other people's training loops and pipelines."""

from memfast.detectors.attention_capture import AttentionCapture, capture_attention, prompt_tokens
from memfast.integrations.diffusers import objective_from_scheduler, schedule_from_scheduler
from memfast.integrations.diffusers_branches import FirstCall, Prepared
from memfast.integrations.diffusers_guidance import guided_by
from memfast.integrations.diffusers_mitigations import optimise_latents, optimise_prompt

__all__ = [
    "AttentionCapture",
    "FirstCall",
    "Prepared",
    "capture_attention",
    "guided_by",
    "objective_from_scheduler",
    "optimise_latents",
    "optimise_prompt",
    "prompt_tokens",
    "schedule_from_scheduler",
]
