"""A run as one HTML page: self-contained, readable without JavaScript, a pure function of the run."""

from nfbench.report.page.document import render as render
