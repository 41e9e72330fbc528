"""W_p in whole numbers, to judge float64 by: networkx's network simplex is exact on integers."""

import math
from fractions import Fraction

import networkx as nx
import numpy as np

ROOT_BITS = 400


def exact_cost(x, y, p, x_weights=None, y_weights=None) -> Fraction:
    """``W_p^p`` of float64 points as given: exact for even p, to 400 bits beyond the square for odd p."""
    bits = _fraction_bits(x, y)
    grain = 1 << bits
    first, second = ([[int(Fraction(float(value)) * grain) for value in row] for row in points] for points in (x, y))
    graph = nx.DiGraph()
    a, b = _whole(x_weights, len(x)), _whole(y_weights, len(y))
    total = sum(a) * sum(b)
    for i, mass in enumerate(a):
        graph.add_node(("x", i), demand=-mass * sum(b))
    for j, mass in enumerate(b):
        graph.add_node(("y", j), demand=mass * sum(a))
    for i, left in enumerate(first):
        for j, right in enumerate(second):
            squared = sum((k - m) ** 2 for k, m in zip(left, right, strict=True))
            power = squared ** (p // 2) if p % 2 == 0 else math.isqrt(squared**p << (2 * ROOT_BITS))
            graph.add_edge(("x", i), ("y", j), weight=power)
    cost, _ = nx.network_simplex(graph)
    return Fraction(cost, total * grain**p * (1 if p % 2 == 0 else 1 << ROOT_BITS))


def _fraction_bits(x, y) -> int:
    return max(Fraction(float(value)).denominator.bit_length() - 1 for value in np.concatenate([x, y]).flat)


def _whole(weights, count) -> list[int]:
    if weights is None:
        return [1] * count
    fractions = [Fraction(float(weight)) for weight in weights]
    common = math.lcm(*(fraction.denominator for fraction in fractions))
    return [int(fraction * common) for fraction in fractions]
