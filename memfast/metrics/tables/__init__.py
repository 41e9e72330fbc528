"""Metrics of tables with numbers, dates and categories: Gower's distance, DCR scores and privacy risks."""

from memfast.metrics.tables.attacks import AttackRisk, inference_risk, linkability_risk, singling_out_risk
from memfast.metrics.tables.closest_record import (
    BaselineProtection,
    OverfittingProtection,
    dcr_baseline_protection,
    dcr_overfitting_protection,
    distance_to_closest_record,
    table_identifiability,
)
from memfast.metrics.tables.columns import Table, open_tables
from memfast.metrics.tables.gower import gower_distance

__all__ = [
    "AttackRisk",
    "BaselineProtection",
    "OverfittingProtection",
    "Table",
    "dcr_baseline_protection",
    "dcr_overfitting_protection",
    "distance_to_closest_record",
    "gower_distance",
    "inference_risk",
    "linkability_risk",
    "open_tables",
    "singling_out_risk",
    "table_identifiability",
]
