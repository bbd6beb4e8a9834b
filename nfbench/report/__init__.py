"""From stored vectors to metrics, leaderboards and tables."""
