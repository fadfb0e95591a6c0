"""The parts of `benchmarks/parity.py`, one per area of the model."""
