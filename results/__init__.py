"""Entries of the shipped leaderboard, one JSON a victim: `medrobust leaderboard --from results`."""
