"""MS-SSIM against torchmetrics."""

import pytest
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from memfast.detectors import ms_ssim
from memfast.detectors.structural import fitting


def pair(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    first = torch.rand(shape, generator=generator)
    return first, (first + torch.rand(shape, generator=generator)) / 2


@pytest.mark.parametrize("shape", [(5, 4, 64, 64), (2, 1, 63, 50), (1, 3, 96, 64)])
def test_it_is_torchmetrics(shape):
    first, second = pair(*shape)
    theirs = multiscale_structural_similarity_index_measure(
        first, second, reduction="none", kernel_size=11, betas=(0.33, 0.33, 0.33), data_range=1.0
    )
    torch.testing.assert_close(ms_ssim(first, second), theirs, rtol=1e-5, atol=1e-6)


def test_one_scale_is_torchmetrics_too():
    first, second = pair(3, 1, 14, 14)
    theirs = multiscale_structural_similarity_index_measure(
        first, second, reduction="none", kernel_size=11, betas=(0.33,), data_range=1.0
    )
    assert fitting((14, 14), 3, 11) == (1, (11, 11))
    torch.testing.assert_close(ms_ssim(first, second), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (2, 1, 14, 14), (2, 3, 5, 8), (2, 1, 2, 2), (2, 1, 140), (2, 2, 63)])
def test_equal_pictures_give_1_and_others_less(shape):
    first, second = pair(*shape)
    torch.testing.assert_close(ms_ssim(first, first), torch.ones(2))
    assert (ms_ssim(first, second) < 1).all()
    torch.testing.assert_close(ms_ssim(first, second), ms_ssim(second, first))


def test_opposite_pictures_give_0():
    first = torch.rand(2, 1, 64, 64)
    assert (ms_ssim(first, 1 - first) == 0).all()


@pytest.mark.parametrize(
    ("sides", "expected"),
    [((44, 44), (3, (11, 11))), ((43, 64), (2, (11, 11))), ((22, 22), (2, (11, 11))), ((21, 22), (1, (11, 11))),
     ((8, 64), (1, (7, 7))), ((1, 44), (3, (1, 11))), ((1, 1), (1, (1, 1)))],
)  # fmt: skip
def test_what_fits(sides, expected):
    assert fitting(sides, 3, 11) == expected
