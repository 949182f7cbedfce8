"""The speed of Relay beside its peers, measured in one run: ``python -m benchmarks``."""
