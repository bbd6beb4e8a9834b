"""A small leaderboard."""

import numpy as np
import pytest
from boards import Board


@pytest.fixture
def board() -> Board:
    board = Board()
    board.add("weak", "fgsm", 0.6, 0.8, evasion=[0.9, 0.9, 0.9, np.inf])
    board.add("weak", "pgd", 0.5, 0.7, evasion=[np.inf, 0.9, 0.15, 0.15])
    board.add("strong", "fgsm", 0.9, 0.1, evasion=[0.99, np.inf, np.inf, np.inf])
    board.add("strong", "pgd", 0.8, 0.2, evasion=[0.25, np.inf, np.inf, np.inf])
    return board
