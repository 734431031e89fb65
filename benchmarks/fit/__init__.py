"""`flowvi.fit` beside pyro's guides and NUTS, at equal time: `python -m benchmarks fit`."""
