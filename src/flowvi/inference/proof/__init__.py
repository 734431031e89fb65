"""`fit` and its verdict on targets whose answers are known: `python -m flowvi.inference.proof`."""
