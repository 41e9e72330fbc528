"""The self-contained pages: figures, pictures and charts of audits, training runs and traces. Never computes."""

from memfast.reports.page import render, write_report
from memfast.reports.run import Pictures, ReportRun
from memfast.reports.trace_page import render_trace, write_trace_report

__all__ = ["Pictures", "ReportRun", "render", "render_trace", "write_report", "write_trace_report"]
