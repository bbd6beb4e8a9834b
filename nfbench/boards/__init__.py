"""Boards: pages rendered from committed results, checked against them, and compared."""
