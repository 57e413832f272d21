"""Scores, probes, the shipped features of real speech, and the benchmark."""
