"""How many phantoms per second does one core draw, report included, at each size?

    OMP_NUM_THREADS=1 python benchmarks/phantom_speed.py [--sizes 128 256] [--count 200]

Prints one line per size: images per second by wall clock and by processor time (the two part on a busy machine).
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from unixcxr.phantom import sample_phantom


def measure(size_px: int, count: int) -> tuple[float, float]:
    """Return images per second by wall clock and by processor time, after a warm-up that fills the caches."""
    for seed in range(20):
        sample_phantom(seed, size_px)
    wall, busy = time.perf_counter(), time.process_time()
    for seed in range(count):
        sample_phantom(seed, size_px)
    return count / (time.perf_counter() - wall), count / (time.process_time() - busy)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    for size_px in options.sizes:
        wall, busy = measure(size_px, options.count)
        print(
            f"{size_px:4d} px  {wall:6.1f} images/s wall  {busy:6.1f} images/s processor  n={options.count}"
        )


if __name__ == "__main__":
    main()
