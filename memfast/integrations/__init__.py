"""Adapters for other people's training loops."""

from memfast.integrations.diffusers import objective_from_scheduler, schedule_from_scheduler

__all__ = ["objective_from_scheduler", "schedule_from_scheduler"]
