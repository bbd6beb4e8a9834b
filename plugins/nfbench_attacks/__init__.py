"""The attacks that come with nfbench."""

from nfbench import Entry, hookimpl


@hookimpl
def nfbench_attacks() -> list[Entry]:
    """Offered lazily, so that listing them imports neither torch nor an attack library."""
    home = "nfbench_attacks"
    return [
        Entry("fgsm", f"{home}.gradient:FGSM", "one signed step (Foolbox)"),
        Entry("bim-a", f"{home}.bim_a:BIMa", "signed steps, stops at success (own)"),
        Entry("bim-b", f"{home}.gradient:BIMb", "signed steps, last iterate (Foolbox)"),
        Entry("pgd", f"{home}.gradient:PGD", "signed steps from a random point (Foolbox)"),
        Entry("pgd-l2", f"{home}.gradient:PGDL2", "gradient steps in an L2 ball (Foolbox)"),
        Entry("pgd-l1", f"{home}.gradient:PGDL1", "steps along few pixels in an L1 ball (own)"),
        Entry("apgd", f"{home}.apgd:APGD", "Auto-PGD, steps halved image by image (own)"),
        Entry("apgd-l2", f"{home}.apgd:APGDL2", "Auto-PGD in an L2 ball (own)"),
        Entry("cw", f"{home}.cw:CarliniWagner", "smallest L2 perturbation (Foolbox)"),
        Entry("cw-fp", f"{home}.cw_lagrangian:CWFingerprint", "smallest L2, two weights searched (own)"),
        Entry(
            "cw-fp-one",
            f"{home}.cw_lagrangian:CWFingerprintOne",
            "the same with the detector's weight left at 1 (own)",
        ),
        Entry("fmn", f"{home}.fmn:FMN", "smallest L2 in a shrinking ball (own)"),
        Entry("fmn-linf", f"{home}.fmn:FMNLinf", "smallest L-inf in a shrinking ball (own)"),
        Entry("jsma", f"{home}.jsma:JSMA", "most salient pixel pairs (own, equal to ART)"),
        Entry("spsa", f"{home}.spsa:SPSA", "gradient-free, from paired queries (own)"),
        Entry("square", f"{home}.square:Square", "random search by squares of pixels (own)"),
        Entry("square-l2", f"{home}.square:SquareL2", "the same in an L2 ball (own)"),
        Entry("hopskipjump", f"{home}.hopskipjump:HopSkipJump", "smallest L2 from decisions (own)"),
        Entry(
            "hopskipjump-linf",
            f"{home}.hopskipjump:HopSkipJumpLinf",
            "smallest L-inf from decisions (own)",
        ),
        Entry("random-search", f"{home}.random_search:RandomSearch", "best of many random points (own)"),
        Entry("mi-di-fgsm", f"{home}.momentum:MomentumDiverse", "made to carry over to others (own)"),
        Entry("mi-di-l2", f"{home}.momentum:MomentumDiverseL2", "the same in an L2 ball (own)"),
        Entry(
            "detector-breaker",
            f"{home}.detector_breaker:DetectorBreaker",
            "the strongest known, one after the other (own)",
        ),
        Entry(
            "detector-breaker-l2",
            f"{home}.detector_breaker:DetectorBreakerL2",
            "the same in an L2 ball (own)",
        ),
    ]
