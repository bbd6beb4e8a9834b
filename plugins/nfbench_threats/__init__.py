"""The threat models that come with nfbench."""

from nfbench import Entry, hookimpl


@hookimpl
def nfbench_threat_models() -> list[Entry]:
    """Offered lazily, so that listing them imports no torch."""
    home = "nfbench_threats.whitebox"
    return [
        Entry("partial-whitebox", f"{home}:PartialWhitebox", "knows the classifier, not the detector"),
        Entry("adaptive-whitebox", f"{home}:AdaptiveWhitebox", "knows the detector and its secret too"),
    ]
