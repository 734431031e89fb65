"""Timings of flowvi beside the program it starts from; `python -m benchmarks --help` says what they are."""
