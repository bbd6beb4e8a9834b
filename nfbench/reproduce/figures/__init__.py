"""The papers' figures, drawn from runs and studies."""
