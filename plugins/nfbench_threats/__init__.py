"""The threat models that come with nfbench."""

from nfbench import Entry, hookimpl


@hookimpl
def nfbench_threat_models() -> list[Entry]:
    """Offered lazily, so that listing them imports no torch."""
    home = "nfbench_threats"
    return [
        Entry("blackbox", f"{home}.transfer:Blackbox", "trains undefended replicas and attacks those"),
        Entry(
            "partial-whitebox",
            f"{home}.whitebox:PartialWhitebox",
            "knows the classifier, not the detector",
        ),
        Entry(
            "limited-knowledge",
            f"{home}.transfer:LimitedKnowledge",
            "knows how the detector was made, not its secret",
        ),
        Entry(
            "adaptive-whitebox",
            f"{home}.whitebox:AdaptiveWhitebox",
            "knows the detector and its secret too",
        ),
        Entry("score-queries", f"{home}.queries:ScoreQueries", "sees logits and scores of its queries"),
        Entry(
            "decision-queries",
            f"{home}.queries:DecisionQueries",
            "sees the label and whether a query is accepted",
        ),
        Entry(
            "paper-adaptive",
            f"{home}.whitebox:PaperAdaptive",
            "adapts as the NeuralFP paper describes, or as its code does",
        ),
    ]
