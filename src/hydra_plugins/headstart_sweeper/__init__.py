"""Hydra finds the comparison's sweeper here."""
