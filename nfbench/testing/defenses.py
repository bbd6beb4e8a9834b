"""The contract of a defense."""

from nfbench.core.defense import Defense
from nfbench.testing import fitting, scoring
from nfbench.testing.checks import Check, clauses, run_all
from nfbench.testing.trial import Trial


def check_defense(defense: Defense) -> None:
    """Fit, score and restore `defense` on a linear classifier; the first broken clause raises.

    Raises:
        AssertionError: naming the cause and what to do.
    """
    run_all(defense_checks(defense))


def defense_checks(defense: Defense) -> list[Check]:
    """The contract of a defense, clause by clause."""
    tests = [
        fitting.loss_is_a_scalar,
        fitting.fit_leaves_the_classifier_alone,
        fitting.fit_leaves_the_data_alone,
        fitting.state_is_tensors,
        fitting.detector_keeps_tensors_in_buffers,
        scoring.scores_are_one_finite_number_an_image,
        scoring.score_leaves_images_alone,
        scoring.score_repeats_itself,
        scoring.score_ignores_the_batch,
        scoring.score_has_a_gradient,
        scoring.gradient_is_declared,
        scoring.observation_agrees,
        scoring.features_are_rows,
        scoring.rows_per_image_is_honest,
        fitting.state_restores_the_detector,
    ]
    vital = [fitting.state_is_tensors, scoring.scores_are_one_finite_number_an_image]
    return clauses(defense, Trial(defense), tests, vital=vital)
