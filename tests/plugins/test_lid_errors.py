"""LID refuses what can't work, in one line that says what to do."""

import pytest
from lid_bench import classifier_of, detector_of, fit_data, images
from torch import nn

from nfbench import FitData, UsageError
from nfbench_defenses.kd import KD
from nfbench_defenses.kd_bu import KDPlusBU
from nfbench_defenses.lid import LID
from nfbench_defenses.mahalanobis import Mahalanobis


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"k": 1}, "lid.k = 1: input should be greater than or equal to 2"),
        ({"minibatch": 2}, "lid.minibatch = 2: input should be greater than or equal to 3"),
        ({"reference": "pair"}, "lid.reference = 'pair'"),
        ({"laers": ["conv"]}, "no hyperparameter 'laers'; did you mean 'layers'"),
    ],
)
def test_a_wrong_hyperparameter_is_refused_by_name(knobs, message):
    with pytest.raises(UsageError, match=message):
        LID.from_params(knobs)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            ("conv", "dens"),
            r"no layer 'dens'; did you mean 'dense'\? \(layers: input, conv, .*softmax\)",
        ),
        ((), "names no layer"),
    ],
)
def test_a_layer_the_network_lacks_is_refused_before_any_work(layers, message):
    defense, classifier = LID(layers=layers), classifier_of()
    with pytest.raises(UsageError, match=message):
        defense.mismatch(classifier)
    with pytest.raises(UsageError, match=message):
        defense.fit(classifier, fit_data())
    assert LID(layers=("input", "conv", "softmax")).mismatch(classifier) == ""


def test_a_layer_that_never_runs_is_refused():
    classifier = classifier_of()
    classifier.network.spare = nn.Linear(2, 2)
    with pytest.raises(UsageError, match="'spare' yields no tensor"):
        LID(k=8, layers=("conv", "spare")).fit(classifier, fit_data())


def test_too_few_images_are_refused_in_one_line():
    classifier, paired = classifier_of(), LID(k=20, reference="paired")
    with pytest.raises(
        UsageError, match=r"needs k \+ 1 = 21 training images that no example.*got 20: lower"
    ):
        LID(k=20).fit(classifier, fit_data(90, 70))
    with pytest.raises(
        UsageError, match=r"needs k \+ 1 = 21 clean originals at once, got 20: attack more"
    ):
        paired.fit(classifier, fit_data(90, 20))
    with pytest.raises(
        UsageError, match=r"needs k \+ 1 = 21 clean originals at once, got 20: attack more"
    ):
        detector_of(paired, classifier).bind(images(20))
    with pytest.raises(UsageError, match="k = 20 neighbours need a minibatch of more than 20 images"):
        LID.from_params({"minibatch": 20})
    with pytest.raises(UsageError, match="lid learns from attacked images and got none"):
        LID(k=5).fit(classifier, FitData(fit_data().clean))


def test_a_paired_detector_without_originals_says_how_to_give_them():
    detector = detector_of(LID(k=8, minibatch=30, reference="paired"), classifier_of())
    with pytest.raises(UsageError, match=r"beside their clean originals only: .*bind\(originals\)"):
        detector.score(images(3))


@pytest.mark.parametrize(
    ("typed", "names"),
    [("relu", ("relu",)), ("relu,head", ("relu", "head")), (7, ("7",)), (["input", 7], ("input", "7"))],
)
def test_layers_may_be_typed_as_words_numbers_or_a_list(typed, names):
    assert LID.from_params({"layers": typed}).layers == names
    assert Mahalanobis.from_params({"layers": typed}).layers == names


def test_a_layer_may_be_a_number():
    assert KD.from_params({"layer": 7}).layer == KDPlusBU.from_params({"layer": 7}).layer == "7"
