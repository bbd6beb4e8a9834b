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
        Entry("cw", f"{home}.cw:CarliniWagner", "smallest L2 perturbation (Foolbox)"),
        Entry("jsma", f"{home}.jsma:JSMA", "most salient pixel pairs (own, equal to ART)"),
        Entry("spsa", f"{home}.spsa:SPSA", "gradient-free, from paired queries (own)"),
    ]
