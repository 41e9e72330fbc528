"""The self-contained page: figures, pictures and charts of audits and training runs. Never computes."""

from memfast.reports.page import render, write_report
from memfast.reports.run import Pictures, ReportRun

__all__ = ["Pictures", "ReportRun", "render", "write_report"]
