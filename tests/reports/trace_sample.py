"""A made-up trace as trace.json holds one: known curves, so that a page can be checked against them."""

import numpy as np

STEPS = 10


def curve(values, width=0.1):
    values = np.asarray(values, float)
    return {"mean": values.tolist(), "low": (values - width).tolist(), "high": (values + width).tolist()}


def condition(number, memorized, *, seeds=3, target=True, name=None):
    """Memorized ones run ahead of the schedule by a quarter, the others behind it by a tenth."""
    bars = np.linspace(0, 1, STEPS + 1) ** 2
    ahead = 0.25 if memorized else -0.1
    rise = np.sin(np.pi * np.linspace(0, 1, STEPS + 1))
    loss = (np.linspace(50, 1, STEPS) * (3 if memorized else 1) + number).tolist()
    measure = float(number) + (10 if memorized else 0)
    none = [None] * (STEPS + 1)
    curves = {
        "w_target": curve(np.sqrt(bars) + ahead * rise) if target else {"mean": none, "low": none, "high": none},
        "w_initial": curve(np.sqrt(1 - bars) - ahead * rise / 5) if target else None,
        "residual": curve(rise) if target else None,
    }
    branches = {"guided": loss, "conditional": [one / 10 for one in loss], "unconditional": loss}
    cosines = {name: np.linspace(0.5, 0.9, STEPS).tolist() for name in branches}
    return {
        "name": name or f"condition {number}", "label": number, "memorized": memorized, "has_target": target, **curves,
        "diversity": np.linspace(20, 0.5 if memorized else 6, STEPS + 1).tolist(),
        "loss": branches if target else dict.fromkeys(branches),
        "alignment_target": cosines if target else dict.fromkeys(branches), "alignment_initial": cosines,
        "branch_gap": np.linspace(0.1, 5, STEPS).tolist(), "d1": measure if target else None,
        "d2": measure / 10 if target else None, "overestimation": 7.5 if memorized else 2.0,
        "normalised_loss": 0.01 if memorized else 0.4, "posterior": {"max_weight": np.linspace(0, 1, STEPS).tolist()},
        "similarity": {
            "mean": -1 / (1 + measure) if target else None, "per_seed": None, "name": "negative RMS",
        },
        "detectors": {"wen": measure, "jeon": 1e-5 * number},
        "seeds": [
            {"seed": seed, "similarity": -0.5 - seed, "d1": measure + seed, "d2": 0.5,
             "nearest": {"index": 7 + seed, "rms": 0.125}}
            for seed in range(seeds)
        ],
    }  # fmt: skip


def make_trace(memorized=(True, True, False, False, False), **options):
    """A trace with one condition per flag; None is an unlabelled one."""
    conditions = [condition(number, flag, **options) for number, flag in enumerate(memorized)]
    bars = np.linspace(0, 1, STEPS + 1) ** 2
    lines = {"w_target": np.sqrt(bars).tolist(), "w_initial": np.sqrt(1 - bars).tolist()}
    labelled = any(memorized) and not all(memorized) and None not in memorized
    entry = {
        "auc": 0.875, "auc_interval": [0.6, 1.0], "positives": 2, "negatives": 3,
        "tpr_at_fpr": {"fpr": 0.01, "tpr": 0.5, "interval": [0.1, 0.9]},
        "roc": {"fpr": [0.0, 0.0, 0.5, 1.0], "tpr": [0.0, 0.5, 1.0, 1.0]},
    }  # fmt: skip
    return {
        "kind": "trace", "source": {"name": "a made-up run", "family": "memfast", "item_shape": [1, 14, 14]},
        "sampler": {"method": "ddim", "steps": STEPS, "guidance": 7.5, "seeds": [0, 1, 2], "target": "train"},
        "timesteps": [*range(STEPS, 0, -1), None], "alpha_bar": bars.tolist(),
        "theory": {"schedule": lines, "constant_estimate": lines}, "conditions": conditions,
        "correlations": {
            "d1": {"pearson": 0.912, "interval": [0.84, 0.95], "n": len(conditions)},
            "d2": {"pearson": 0.703, "interval": [0.5, 0.83], "n": len(conditions)},
        },
        "detection": {"jeon": {**entry, "auc": 0.5}, "wen": entry} if labelled else None,
        "guidance_sweep": [
            {
                "guidance": scale,
                "conditions": [
                    {"name": one["name"], "memorized": one["memorized"], "d1": scale, "d2": scale / 10,
                     "overestimation": scale if one["memorized"] else scale / 3, "similarity": -0.5,
                     "early_loss": 10.0 * scale}
                    for one in conditions
                ],
            }
            for scale in (1.0, 3.0, 7.5)
        ],
        "provenance": {"versions": {"memfast": "9.9.9"}, "targets": "abc123"},
    }  # fmt: skip
