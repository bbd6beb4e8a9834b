"""`python -m nfbench`."""

from nfbench.cli import main

main()
