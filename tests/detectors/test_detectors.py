"""Every detector against its formula in plain NumPy or torch, from states made here."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from memfast import models, schedules
from memfast.detectors import DETECTORS, Detector, WatchedRun, detector, otsu
from memfast.foundation.errors import InputError
from memfast.sampling import branch_difference, ddim, levels

COUNT, STEPS, TOKENS = 3, 4, 7


def states(shape=(2, 6, 6), count=COUNT, steps=STEPS, seed=0):
    """A run's states as samplers give them, the finished one last."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(steps):
        sigma = 0.99 - 0.2 * index
        state, conditional, unconditional = torch.randn(3, count, *shape, generator=generator)
        found.append(
            SimpleNamespace(
                index=index, alpha=(1 - sigma**2) ** 0.5, sigma=sigma, state=state, noise_hat=conditional,
                conditional=conditional, unconditional=unconditional,
            )
        )  # fmt: skip
    empty = {"noise_hat": None, "conditional": None, "unconditional": None}
    return [*found, SimpleNamespace(index=steps, alpha=1.0, sigma=0.0, state=found[-1].state, **empty)]


def attention_maps(steps=STEPS, count=COUNT, pixels=(36, 9, 9, 36), seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.rand(count, p, TOKENS, generator=generator).softmax(dim=2) for p in pixels] for _ in range(steps)]


def watch(found: Detector, run, extras=None, **begin):
    found.begin(len(run[0].state), **begin)
    for index, step in enumerate(run):
        more = {} if extras is None or index >= len(extras) else extras[index]
        found.step(step, **more)
    return found.scores()


@pytest.mark.parametrize("name", DETECTORS)
def test_every_row_says_what_it_is(name):
    kind = DETECTORS[name]
    assert kind.name == name
    assert kind.higher_is_memorized
    assert kind.source
    assert "Source" in kind.__doc__
    assert isinstance(detector(name), Detector)


def test_wen_is_the_mean_norm():
    run = states()
    each = np.array(
        [
            np.linalg.norm((s.conditional - s.unconditional).double().numpy().reshape(COUNT, -1), axis=1)
            for s in run[:-1]
        ]
    )
    np.testing.assert_allclose(watch(detector("wen"), run), each.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(watch(detector("wen", steps=2), run), each[:2].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(watch(detector("wen_first"), run), each[0], rtol=1e-6)
    again = detector("wen")
    watch(again, states(seed=9))
    np.testing.assert_allclose(watch(again, run), each.mean(axis=0), rtol=1e-6)


def test_jeon_is_the_product_of_the_jacobians():
    """Against full Jacobians of both scores by reverse mode in float64."""
    torch.manual_seed(0)
    shape, labels = (1, 4, 3), torch.tensor([0, 1])
    network = models.build({"kind": "mlp", "item_shape": shape, "width": 16, "blocks": 1, "num_classes": 2})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    network.eval()
    seen = []
    found = detector("jeon", steps=2)

    class Watch:
        both_branches = True

        def __call__(self, step):
            seen.append(step)
            level = levels(schedules.linear(1000), 6)[step.index]
            found.step(step, difference=branch_difference(network, level, labels))

    found.begin(2)
    ddim(network, schedules.linear(1000), shape=shape, count=2, steps=6, labels=labels, guidance=1.0, callback=Watch())
    expected = np.zeros((2, 2))
    network.double()
    for number, step in enumerate(seen[:2]):
        for row in range(2):
            times = torch.tensor([step.timestep])

            def score(x, times=times, row=row, sigma=step.sigma):
                with_label = network(x[None].double(), times, labels[row : row + 1])
                return -(with_label - network(x[None].double(), times, None))[0] / sigma

            x = step.state[row].double()
            jacobian = torch.autograd.functional.jacobian(score, x).reshape(12, 12)
            expected[number, row] = (jacobian @ score(x).detach().reshape(12)).norm()
    np.testing.assert_allclose(found.scores(), expected.mean(axis=0), rtol=1e-4)


def test_jeon_passes_through_a_networks_attention():
    torch.manual_seed(0)
    network = models.build({"kind": "unet2d", "item_shape": (1, 8, 8), "widths": (8, 8), "num_classes": 2}).eval()
    level = levels(schedules.linear(1000), 6)[0]
    difference = branch_difference(network, level, torch.tensor([0, 1]))
    x = torch.randn(2, 1, 8, 8)
    torch.nn.init.normal_(network.network.class_embedding.weight)
    with torch.no_grad():
        gap = difference(x)
        small = 1e-2 / gap.norm()
        numeric = (difference(x + small * gap) - difference(x - small * gap)) / (2 * small)
        step = SimpleNamespace(
            index=0, alpha=level.alpha, sigma=level.sigma, state=x, noise_hat=gap, conditional=gap,
            unconditional=torch.zeros_like(gap),
        )  # fmt: skip
        scores = watch(detector("jeon"), [step], [{"difference": difference}])
    np.testing.assert_allclose(scores, numeric.flatten(1).norm(dim=1) / level.sigma**2, rtol=2e-2)


def test_hintersdorf_is_the_greatest_ms_ssim_of_a_seed_with_the_others():
    run = states((4, 64, 64), count=5)
    # Three seeds of one condition that begin alike, two of another that do not.
    first = run[0]
    first.conditional[:3] = first.state[:3] + torch.randn(1, 4, 64, 64) + 0.5 * first.conditional[:3]
    groups = np.array([7, 7, 7, 2, 2])
    change = first.conditional - first.state
    low, high = change.amin(dim=(2, 3), keepdim=True), change.amax(dim=(2, 3), keepdim=True)
    scaled = (change - low) / (high - low)
    expected = np.full(5, -1.0)
    for one in range(5):
        for other in range(5):
            if one != other and groups[one] == groups[other]:
                value = multiscale_structural_similarity_index_measure(
                    scaled[one][None], scaled[other][None], betas=(0.33, 0.33, 0.33), data_range=1.0
                )
                expected[one] = max(expected[one], float(value))
    found = detector("hintersdorf")
    np.testing.assert_allclose(watch(found, run, groups=groups), expected, atol=1e-4)
    assert found.flags().tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("shape", [(1, 14, 14), (1, 63)])
def test_hintersdorf_takes_small_items_and_signals(shape):
    scores = watch(detector("hintersdorf"), states(shape))
    assert scores.shape == (COUNT,)
    assert (scores >= 0).all()
    assert (scores < 1).all()


def test_nearest_detectors_flip_the_sign():
    squared = np.array([[4, 16, 25], [9, 9, 9], [0, 0, 1], [0, 4, 9]])
    distance, ratio = detector("nearest_distance"), detector("nearest_ratio")
    for one in (distance, ratio):
        one.begin(4)
        one.distances(squared)
    assert distance.scores().tolist() == [-2, -3, 0, 0]
    assert ratio.scores().tolist() == [-0.5, -1, -1, 0]


def test_ren_is_the_entropy_of_the_mean_attention():
    run, maps, tokens = states(), attention_maps(), np.array([3, 5, 7])
    shares = np.array([np.mean([layer.double().numpy().mean(axis=1) for layer in step], axis=0) for step in maps])
    terms = -shares * np.log(shares)
    expected = np.zeros(COUNT)
    for row in range(COUNT):
        padding = terms[:, row, tokens[row] - 1 :].sum(axis=1)
        expected[row] = terms[-2:, row].sum(axis=1).mean() + padding[-2:].mean() - padding[0]
    extras = [{"attention": step} for step in maps]
    np.testing.assert_allclose(watch(detector("ren", last_steps=2), run, extras, tokens=tokens), expected, rtol=1e-6)
    layer = maps[0][3].double().numpy().mean(axis=1)
    found = watch(detector("ren_first"), run, extras)
    np.testing.assert_allclose(found, -(layer * np.log(layer)).sum(axis=1), rtol=1e-6)


def test_ren_counts_a_token_that_nobody_looks_at_as_nothing():
    one_hot = torch.zeros(COUNT, 9, TOKENS)
    one_hot[..., 2] = 1.0
    found = watch(detector("ren_first", layer=0), states(), [{"attention": [one_hot]}] * STEPS)
    assert found.tolist() == [0.0, 0.0, 0.0]


def test_bright_ending_is_the_masked_magnitude():
    run, maps, tokens = states(), attention_maps(), np.array([3, 5, 7])
    found = detector("bright_ending")
    scores = watch(found, run, [{"attention": step} for step in maps], tokens=tokens)
    for row in range(COUNT):
        picture = (maps[-1][0] + maps[-1][3])[row, :, tokens[row] - 1].view(6, 6) / 2
        mask = picture >= otsu(picture.numpy())
        np.testing.assert_array_equal(found.masks()[row], mask)
        each = [((s.conditional - s.unconditional)[row] * mask).norm() / mask.double().mean().sqrt() for s in run[:-1]]
        assert scores[row] == pytest.approx(float(torch.stack(each).mean()), rel=1e-5)


def test_bright_ending_with_an_even_attention_is_wen():
    run = states()
    # Enlarging rounds, differently on every processor; these last digits stand for the worst of them.
    even = [{"attention": [torch.full((COUNT, 9, TOKENS), 1 / TOKENS)]}] * STEPS
    even[-1]["attention"][0][:, ::2] *= 1 + 4 * torch.finfo(torch.float32).eps
    tokens = np.full(COUNT, 4)
    np.testing.assert_allclose(
        watch(detector("bright_ending"), run, even, tokens=tokens), watch(detector("wen"), run), rtol=1e-6
    )


def test_bright_ending_brings_coarse_attention_to_the_latents_size():
    found, coarse = detector("bright_ending"), torch.zeros(COUNT, 9, TOKENS)
    coarse[:, 0, 3] = 1.0  # the upper left ninth
    watch(found, states(), [{"attention": [coarse]}] * STEPS, tokens=np.full(COUNT, 4))
    masks = found.masks()
    assert masks[:, 0, 0].all()
    assert not masks[:, 3:, :].any()
    assert not masks[:, :, 3:].any()


@pytest.mark.parametrize("seed", range(10))
def test_otsu_is_brute_force(seed):
    values = np.random.default_rng(seed).beta(0.5, 0.5, 63).round(2)
    best, cut = -1.0, None
    for threshold in np.unique(values)[1:]:
        low, high = values[values < threshold], values[values >= threshold]
        between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if between > best + 1e-9:
            best, cut = between, threshold
    assert otsu(values) == cut


@pytest.mark.parametrize("scale", [1.0, 1e-6, -1.0])
def test_otsu_makes_no_border_of_the_last_digits_of_float32(scale):
    even = np.full(64, 0.3, np.float32) * np.float32(scale)
    rounded = even.copy()
    rounded[:20] = np.nextafter(even[:20], np.float32(np.inf))
    assert (even >= otsu(even)).all()
    assert (rounded >= otsu(rounded)).all()
    different = np.where(np.arange(64) < 20, even * np.float32(1.001), even)
    np.testing.assert_array_equal(different >= otsu(different), different > different.min())
    assert otsu(np.array([0.7])) == 0.7


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("wenn", {}, "detector: expected one of wen, wen_first, jeon"),
        ("wen", {"stops": 1}, r"detector wen: expected its own arguments \(steps\)"),
        ("jeon", {"steps": 0}, "steps: expected a whole number of at least 1"),
        ("hintersdorf", {"threshold": 2}, "threshold: expected a finite number above 0 and below 1"),
    ],
)
def test_bad_options_are_refused_in_words(name, options, text):
    with pytest.raises(InputError, match=text):
        detector(name, **options)


@pytest.mark.parametrize("name", DETECTORS)
def test_scores_without_states_are_refused_in_words(name):
    one = detector(name)
    one.begin(2)
    with pytest.raises(InputError, match=f"{name}: expected at least one state"):
        one.scores()


def test_missing_parts_are_refused_in_words():
    run = states()
    one_branch = SimpleNamespace(**{**vars(run[0]), "unconditional": None})
    for name in ("wen", "wen_first", "jeon"):
        with pytest.raises(InputError, match=r"expected (both branches|difference)"):
            watch(detector(name), [one_branch])
    with pytest.raises(InputError, match="ren: expected attention, one tensor per cross-attention layer"):
        watch(detector("ren"), run, tokens=[2, 2, 2])
    with pytest.raises(InputError, match="bright_ending: expected tokens in begin"):
        watch(detector("bright_ending"), run, [{"attention": m} for m in attention_maps()])
    with pytest.raises(InputError, match="layer: expected 0 to 1, received 3"):
        watch(detector("ren_first"), run, [{"attention": m} for m in attention_maps(pixels=(9, 9))])
    with pytest.raises(InputError, match=r"attention \[3, pixels, 7 tokens\]"):
        watch(detector("ren_first"), run, [{"attention": m} for m in attention_maps(count=6)])
    with pytest.raises(InputError, match="groups: expected at least two seeds of every condition"):
        watch(detector("hintersdorf"), run, groups=[0, 0, 1])
    with pytest.raises(InputError, match="groups: expected 3 whole numbers"):
        watch(detector("hintersdorf"), run, groups=[0, 1])
    nearest = detector("nearest_ratio")
    nearest.begin(3)
    with pytest.raises(InputError, match=r"squared distances \[3, 2 or more\]"):
        nearest.distances(np.zeros((3, 1)))
    with pytest.raises(InputError, match="wen: expected states of a run, by step, received distances"):
        detector("wen").distances(np.zeros((3, 1)))


GUIDED = WatchedRun(branches=True, seeds=3, training_items=5)


@pytest.mark.parametrize(
    ("run", "names"),
    [
        (GUIDED, "wen wen_first jeon hintersdorf nearest_distance nearest_ratio"),
        (WatchedRun(branches=True, seeds=1, training_items=1), "wen wen_first jeon nearest_distance"),
        (WatchedRun(branches=False, seeds=3, training_items=2), "nearest_distance nearest_ratio"),
        (WatchedRun(branches=False, seeds=3), ""),
        (WatchedRun(branches=True, attention=True), "wen wen_first jeon"),
    ],
)
def test_a_run_watches_by_default_what_it_can_feed(run, names):
    found = [name for name, kind in DETECTORS.items() if kind.by_default and kind.why_not(run) is None]
    assert found == names.split()


@pytest.mark.parametrize(
    ("name", "run", "lacks"),
    [
        ("wen", WatchedRun(branches=False), "both branches of guidance"),
        ("ren", WatchedRun(branches=True), "attention maps"),
        ("ren", WatchedRun(branches=True, attention=True), None),
        ("hintersdorf", WatchedRun(branches=True, seeds=1), "at least 2 seeds of every condition"),
        ("nearest_distance", WatchedRun(branches=False), "a bank of training items"),
        ("nearest_ratio", WatchedRun(branches=False, training_items=1), "a bank of 2 training items or more"),
        ("nearest_ratio", WatchedRun(branches=False, training_items=2), None),
    ],
)
def test_a_detector_says_what_a_run_lacks(name, run, lacks):
    assert DETECTORS[name].why_not(run) == lacks


def test_a_start_without_signal_is_compared_by_clean_estimates():
    """Flow matching at its noisiest level: noise estimates are the state itself, whatever the condition."""
    torch.manual_seed(0)
    network = models.build({"kind": "mlp", "item_shape": (1, 12, 12), "width": 16, "blocks": 1, "num_classes": 2})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    labels, steps = torch.tensor([0, 0, 1, 1]), []

    def watch(step):
        steps.append(step)

    watch.both_branches = True
    ddim(
        network, schedules.flow(100), shape=(1, 12, 12), count=4, steps=3, labels=labels,
        prediction_type="flow_prediction", callback=watch,
    )  # fmt: skip
    first = steps[0]
    assert first.alpha == 0
    assert torch.equal(first.conditional, first.unconditional)
    times = torch.full((4,), 1000.0)
    with torch.no_grad():
        velocities = network(first.state, times, labels), network(first.state, times, None)
    scores = {}
    for name in ("wen_first", "hintersdorf"):
        one = detector(name)
        one.begin(4, groups=labels.numpy())
        for step in steps:
            one.step(step)
        scores[name] = one.scores()
    expected = (velocities[0] - velocities[1]).double().flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(scores["wen_first"], expected, rtol=1e-4)
    assert scores["hintersdorf"][0] != scores["hintersdorf"][2]
    assert (scores["hintersdorf"] < 0.999).all()
