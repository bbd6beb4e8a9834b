"""What a defense learns from: attacked training images, and nothing that it is judged by."""

import pytest
import torch

from nfbench import ContractViolation, Split, Splits
from nfbench.runner.learning import chosen, disjoint, fit_data
from nfbench_attacks.gradient import FGSM
from nfbench_datasets.digits import Digits


def split(count, first=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 4, 4, generator=generator)
    return Split(x, torch.arange(count) % 2, torch.arange(first, first + count))


def with_images_of(part, other, count):
    """`part`, its first images replaced by those of another part."""
    x = part.x.clone()
    x[:count] = other.x[:count]
    return Split(x, part.y, part.index)


@pytest.fixture
def splits():
    return Splits(split(300, seed=1), split(100, 300, seed=2), split(100, 400, seed=3))


def test_all_training_images_are_learnt_from_where_none_is_held_out(splits):
    assert torch.equal(disjoint(splits).index, splits.train.index)


@pytest.mark.parametrize("part", ["test", "calibration"])
def test_a_detector_trained_and_tested_on_overlapping_images_is_refused(splits, part):
    overlapping = with_images_of(getattr(splits, part), splits.train, 3)
    with pytest.raises(ContractViolation, match="3 of 200 calibration and test images are also"):
        disjoint(splits._replace(**{part: overlapping}))


def test_a_few_exact_repeats_are_not_learnt_from(splits):
    overlapping = with_images_of(splits.test, splits.train, 2)
    found = disjoint(splits._replace(test=overlapping))
    assert torch.equal(found.index, torch.arange(2, 300))


def test_digits_share_no_image_between_training_and_what_is_held_out():
    splits = Digits().splits(None)
    held_out = torch.cat([splits.calibration.x, splits.test.x]).flatten(1)
    assert len(disjoint(splits)) == len(splits.train)
    assert int((torch.cdist(splits.train.x.flatten(1), held_out) == 0).sum()) == 0


def test_the_images_attacked_are_a_fixed_draw_that_a_larger_limit_extends(splits):
    few, more = chosen(splits.train, 20, 0), chosen(splits.train, 50, 0)
    assert len(few) == 20
    assert set(few.index.tolist()) < set(more.index.tolist())
    assert few.index.tolist() == sorted(few.index.tolist()) != list(range(20))
    assert not torch.equal(chosen(splits.train, 20, 1).index, few.index)
    assert len(chosen(splits.train, 1000, 0)) == len(splits.train) // 2


def crafted(train, rows, *, fooled=True):
    part = train.take(rows)
    prediction = part.y ^ 1 if fooled else part.y
    images = (part.x + 0.1).clamp(0, 1)
    return {"index": part.index, "label": part.y, "images": images, "prediction": prediction}


def test_examples_are_training_images_row_by_row(splits):
    rows = torch.tensor([7, 2, 9])
    attempted = splits.train.take(rows)
    data = fit_data(splits.train, attempted, crafted(splits.train, rows), FGSM(), 0)
    assert data.examples is not None
    assert torch.equal(data.examples.clean.x, splits.train.x[rows])
    assert torch.equal(data.examples.clean.y, splits.train.y[rows])
    assert torch.equal(data.examples.adversarial, (splits.train.x[rows] + 0.1).clamp(0, 1))
    kinds = (data.examples.adversarial, data.examples.noisy)
    moved = [(x - splits.train.x[rows]).flatten(1).norm(dim=1).mean() for x in kinds]
    assert float(moved[0]) == pytest.approx(float(moved[1]), rel=0.01)


def test_the_others_are_those_without_an_example(splits):
    rows = torch.tensor([7, 2, 9])
    attempted = splits.train.take(rows)
    data = fit_data(splits.train, attempted, crafted(splits.train, rows), FGSM(), 0)
    assert len(data.others) == 297
    assert not set(data.others.index.tolist()) & {7, 2, 9}


def test_examples_of_images_that_may_not_be_learnt_from_are_left_out(splits):
    found = crafted(splits.train, torch.tensor([0, 1, 250]))
    usable = splits.train.take(torch.arange(2, 300))
    data = fit_data(usable, usable, found, FGSM(), 0)
    assert data.examples is not None
    assert data.examples.clean.index.tolist() == [250]


def test_an_attack_that_fools_nobody_can_not_be_learnt_from(splits):
    found = crafted(splits.train, torch.arange(5), fooled=False)
    with pytest.raises(ContractViolation, match=r"learn from fgsm: .* none of the 5 training images"):
        fit_data(splits.train, splits.train, found, FGSM(), 0)


def test_the_others_have_their_share_of_misclassified_images(splits):
    attempted = splits.train.take(torch.arange(100))
    found = crafted(splits.train, torch.arange(60))  # 60 to 99 were misclassified already
    data = fit_data(splits.train, attempted, found, FGSM(), 0)
    assert data.others.index.tolist() == list(range(100, 300))
    assert data.clean.index.tolist() == [*range(60), *range(100, 300)]
