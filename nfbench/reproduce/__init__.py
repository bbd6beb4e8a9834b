"""The papers, reproduced: their claims as data, the runs that test them, figures and verdicts."""
