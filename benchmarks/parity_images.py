"""Compare our image transforms with golden tensors of the released code.

    python benchmarks/parity_images.py GOLDEN_DIR

Prints one line per quantity and exits with 1 if any differs by more than its bound; `compare_transforms`
yields the same rows to other scripts. Sizes come from the tensors, so any directory of the layout works.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from unixcxr.data import transforms

FLOAT_BOUND = 1e-6


def compare_transforms(golden_dir: Path) -> Iterator[tuple[str, float, float]]:
    """Yield (quantity, largest difference, bound) for every golden resize size and transformed picture."""
    cases = json.loads((golden_dir / "meta.json").read_text())["resize_sizes"]
    yield "resize_sizes (wrong cases)", float(sum(_size_differs(case) for case in cases)), 0.0
    golden = load_file(golden_dir / "transforms.safetensors")
    for name, expected in golden.items():
        image_name, _, quantity = name.partition("_")
        if quantity == "pixels":
            continue
        found = transform_named(golden[f"{image_name}_pixels"], quantity, max(expected.shape))
        if found.shape != expected.shape:
            yield name, float("inf"), 0.0
            continue
        difference = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())
        yield name, difference, 0.0 if expected.dtype == np.uint8 else FLOAT_BOUND


def transform_named(image: np.ndarray, quantity: str, size_px: int) -> np.ndarray:
    """Compute what a golden tensor of this name holds, from the uint8 picture (H, W)."""
    kind = re.sub(r"\d+", "", quantity)
    if kind == "siglip_resized_u":
        return transforms.released_resize(image, size_px)
    if kind == "siglip":
        resized = transforms.released_resize(image, size_px)
        return transforms.normalise(resized, transforms.SIGLIP_MEAN, transforms.SIGLIP_STD).numpy()
    if kind == "vae":
        return transforms.image_to_latent_input(image, "released", size_px).numpy()
    if kind == "eval_letterbox_u":
        return transforms.fit_image(image, "released_eval", size_px)
    if kind == "demo_lanczos_u":
        return transforms.fit_image(image, "released_gradio", size_px)
    raise SystemExit(f"no transform is known for the golden tensor {quantity!r}")


def _size_differs(case: dict) -> bool:
    width, height = case["in_wh"]
    limits = case["max"], case["min"], case["stride"], case["max_pixels"], case["img_num"]
    return list(transforms.resized_size(width, height, *limits)) != case["out_hw"][::-1]


def main() -> int:
    """Print the comparison; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("golden_dir", type=Path)
    failed = False
    for quantity, difference, bound in compare_transforms(parser.parse_args().golden_dir):
        failed |= not difference <= bound
        print(f"{quantity:40} {difference:10.3g} {bound:10.3g} {'ok' if difference <= bound else 'FAIL'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
