"""The command line. Imports neither torch nor a plugin class before a command needs it."""

from nfbench.cli.main import app, main

__all__ = ["app", "main"]
