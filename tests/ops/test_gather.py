"""Noise and loss straight from a uint8 data set: the same bits as gathering first."""

import pytest
import torch

from memfast import ops
from memfast.foundation.errors import InputError
from tests.ops.ops_cases import DTYPES

ITEMS = [(1, 20), (3, 33, 35), (2, 70, 3, 11), (3, 32, 32), (5003,)]


def case(item, batch=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "dataset": torch.randint(0, 256, (17, *item), generator=generator, dtype=torch.uint8),
        "indices": torch.randint(0, 17, (batch,), generator=generator),
        "table": torch.randn(30, 7, generator=generator),
        "sample_ids": torch.randint(0, 2**56, (batch,), generator=generator),
        "key": ops.key(11, 3),
        "fixed_ids": torch.randint(0, 17, (batch,), generator=generator),
    }


def clean(c, flip):
    """Normalised and flipped batch, by other means: the flip word is the first of the augmentation stream."""
    rows = c["dataset"][c["indices"]]
    if flip:
        ids, key = c["sample_ids"], c["key"]
        counter = torch.stack(
            (torch.zeros_like(ids), ids & 0xFFFFFFFF, key[1].expand(len(ids)), (3 << 24) | ids >> 32), 1
        )
        odd = ops.philox(counter, torch.stack((key[0] & 0xFFFFFFFF, key[0] >> 32)))[:, 0] % 2 == 1
        assert 0 < odd.sum() < len(ids)
        rows = torch.stack([row.flip(-1) if turn else row for row, turn in zip(rows, odd, strict=True)])
    return (rows.float() * 2 - 255) * torch.tensor(1 / 255)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("flip", [False, True], ids=["as is", "flip"])
@pytest.mark.parametrize("item", ITEMS, ids=str)
def test_equals_gathering_first(isa, item, flip, dtype):
    c = case(item)
    generator = torch.Generator().manual_seed(2)
    thresholds = torch.randint(-(2**63), 2**63 - 1, (29,), generator=generator).sort().values
    timesteps = ops.draw_timesteps(thresholds, c["sample_ids"], c["key"])
    x0 = clean(c, flip)
    common = (c["table"], timesteps, c["sample_ids"], c["key"], c["fixed_ids"])
    x_in = ops.noise(x0, *common, backend="reference").to(dtype)
    for backend in ("cpu", "reference"):
        got = ops.gather_noise(
            **{name: c[name] for name in ("dataset", "indices", "table", "sample_ids", "key", "fixed_ids")},
            timesteps=ops.Draw(thresholds), flip=flip, dtype=dtype, backend=backend,
        )  # fmt: skip
        assert torch.equal(got.timesteps, timesteps)
        assert torch.equal(got.x_in, x_in)
    prediction = torch.randn(x0.shape, generator=generator).to(dtype)
    plain, gathered = (prediction.clone().requires_grad_() for _ in range(2))
    expected = ops.loss(plain, x0, *common, backend="reference")
    value = ops.gather_loss(gathered, c["dataset"], c["indices"], *common, flip=flip, backend="cpu")
    torch.testing.assert_close(value, expected, rtol=3e-7, atol=0)
    expected.backward()
    value.backward()
    assert torch.equal(gathered.grad, plain.grad)


def test_bytes_become_minus_one_to_one():
    levels = torch.arange(256, dtype=torch.uint8)[None]
    zero, table = torch.zeros(1, dtype=torch.int64), torch.tensor([[1.0, 0, 0, 1, 0, 0, 0]])
    x_in = ops.gather_noise(levels, zero, table, zero, zero, ops.key(0)).x_in[0]
    assert (x_in[0], x_in[255]) == (-1.0, 1.0)
    # Two roundings: that of 1 / 255 and that of the product.
    torch.testing.assert_close(x_in.double(), torch.arange(256).double() / 127.5 - 1, rtol=0, atol=2**-23)


def test_given_timesteps_are_returned_as_a_copy():
    c = case((1, 20))
    timesteps = torch.arange(9)
    got = ops.gather_noise(c["dataset"], c["indices"], c["table"], timesteps, c["sample_ids"], c["key"])
    assert torch.equal(got.timesteps, timesteps)
    assert got.timesteps.data_ptr() != timesteps.data_ptr()


def test_empty_batch():
    c = case((3, 8, 8), batch=0)
    got = ops.gather_noise(c["dataset"], c["indices"], c["table"], c["indices"], c["sample_ids"], c["key"])
    assert got.x_in.shape == (0, 3, 8, 8)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": torch.zeros(17, 1, 20)}, "dataset: expected a uint8 tensor"),
        ({"dataset": torch.zeros(17, 1, 40, dtype=torch.uint8)[..., ::2]}, "dataset: expected a contiguous tensor"),
        ({"indices": torch.full((9,), 17)}, "indices: expected values from 0 to 16, received 17"),
        ({"indices": torch.full((9,), -1)}, "indices: expected values from 0 to 16, received -1"),
        ({"sample_ids": torch.arange(8)}, "sample_ids: expected .*length 8"),
        ({"timesteps": torch.full((9,), 30)}, "timesteps: expected values from 0 to 29, received 30"),
        ({"dtype": torch.float64}, "dtype: expected float32, bfloat16 or float16"),
    ],
)
def test_bad_input(change, message, backend):
    arguments = {**case((1, 20)), "timesteps": torch.zeros(9, dtype=torch.int64), **change}
    with pytest.raises(InputError, match=message):
        ops.gather_noise(backend=backend, **arguments)


def test_old_arguments_of_a_draw_warn_and_work():
    c = case((1, 20))
    thresholds = torch.arange(-9, 10) * 2**58
    places = {"positions": torch.arange(9), "total": 9}
    rest = (c["sample_ids"], c["key"])
    expected = ops.gather_noise(c["dataset"], c["indices"], c["table"], ops.Draw(thresholds, **places), *rest)
    with pytest.warns(DeprecationWarning, match=r"gather_noise\(draw=\.\.\.\) is deprecated.*Draw\(thresholds"):
        by_place = ops.gather_noise(c["dataset"], c["indices"], c["table"], thresholds, *rest, draw=True, **places)
    with (
        pytest.warns(DeprecationWarning, match="timesteps_or_thresholds"),
        pytest.warns(DeprecationWarning, match="draw="),
    ):
        by_name = ops.gather_noise(
            c["dataset"], c["indices"], c["table"], timesteps_or_thresholds=thresholds, sample_ids=c["sample_ids"],
            key=c["key"], draw=True, **places,
        )  # fmt: skip
    for got in (by_place, by_name):
        assert torch.equal(got.x_in, expected.x_in)
        assert torch.equal(got.timesteps, expected.timesteps)


def test_a_stratified_draw_needs_its_total():
    c = case((1, 20))
    draw = ops.Draw(torch.arange(-9, 10) * 2**58, torch.arange(9))
    with pytest.raises(InputError, match="total: expected the size of the global batch"):
        ops.gather_noise(c["dataset"], c["indices"], c["table"], draw, c["sample_ids"], c["key"])


def test_gathering_compiles_without_a_break():
    """Drawn and given timesteps, a flip and its loss, in one graph with the eager bits."""
    torch._dynamo.reset()
    c = case((3, 8, 8))
    thresholds = torch.arange(-14, 15) * 2**58

    def step(weight, indices, sample_ids, key):
        rest = (sample_ids, key, c["fixed_ids"])
        x_in, timesteps = ops.gather_noise(c["dataset"], indices, c["table"], ops.Draw(thresholds), *rest, flip=True)
        return ops.gather_loss(x_in * weight, c["dataset"], indices, c["table"], timesteps, *rest, flip=True)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, step):
        weight = torch.full((1,), 0.5, requires_grad=True)
        value = function(weight, c["indices"], c["sample_ids"], c["key"])
        value.backward()
        results.append((value.detach(), weight.grad))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
