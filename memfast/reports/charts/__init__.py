"""Charts as inline SVG, made without a plotting library: lines, dots with intervals, points."""

from memfast.reports.charts.dots import Dot, dot_chart
from memfast.reports.charts.lines import Line, legend, line_chart
from memfast.reports.charts.scatter import Points, scatter_chart

__all__ = ["Dot", "Line", "Points", "dot_chart", "legend", "line_chart", "scatter_chart"]
