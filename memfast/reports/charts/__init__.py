"""Charts as inline SVG, made without a plotting library: lines, dots with intervals."""

from memfast.reports.charts.dots import Dot, dot_chart
from memfast.reports.charts.lines import Line, legend, line_chart

__all__ = ["Dot", "Line", "dot_chart", "legend", "line_chart"]
