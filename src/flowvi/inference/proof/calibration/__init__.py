"""Simulation-based calibration of `fit`, on data that models made: `python -m flowvi.inference.proof.calibration`."""
