"""The defenses that come with nfbench."""

from nfbench import Entry, hookimpl


@hookimpl
def nfbench_defenses() -> list[Entry]:
    """Offered lazily, so that listing them imports no torch."""
    return [
        Entry(name, f"nfbench_defenses.{target}", summary)
        for name, target, summary in (
            (
                "neuralfp",
                "neuralfp:NeuralFP",
                "secret perturbations, trained responses (Dathathri 2018)",
            ),
            ("lid", "lid:LID", "local intrinsic dimensionality at every layer (Ma 2018)"),
            ("kd", "kd:KD", "density of the predicted class's activations (Feinman 2017)"),
            ("bu", "bu:BU", "variance under dropout (Feinman 2017)"),
            ("kd+bu", "kd_bu:KDPlusBU", "density and variance, combined (Feinman 2017)"),
            ("mahalanobis", "mahalanobis:Mahalanobis", "distance to class means by layer (Lee 2018)"),
            (
                "feature-squeezing",
                "feature_squeezing:FeatureSqueezing",
                "change of the prediction when the image loses detail (Xu 2018)",
            ),
            ("max-softmax", "trivial:MaxSoftmax", "1 - largest softmax probability"),
            ("random", "trivial:Random", "a fixed pseudo-random number an image"),
        )
    ]
