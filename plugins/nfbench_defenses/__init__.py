"""The defenses that come with nfbench."""

from nfbench import Entry, hookimpl


@hookimpl
def nfbench_defenses() -> list[Entry]:
    """Offered lazily, so that listing them imports no torch."""
    return [
        Entry(
            "neuralfp",
            "nfbench_defenses.neuralfp:NeuralFP",
            "secret perturbations with trained responses (Dathathri et al. 2018)",
        ),
        Entry("max-softmax", "nfbench_defenses.trivial:MaxSoftmax", "1 - largest softmax probability"),
        Entry("random", "nfbench_defenses.trivial:Random", "a fixed pseudo-random number an image"),
    ]
