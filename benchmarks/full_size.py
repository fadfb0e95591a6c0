"""Build the full 3.2 B model with random bfloat16 weights, load it, read and draw with it, and measure.

    python benchmarks/full_size.py [--folder /tmp] [--out benchmarks/results] [--num-tokens 32] [--num-steps 2]

Writes a directory in the released layout (about 6.6 GB, tensor by tensor: never a second copy in memory), then in
processes of their own: loads it converted to float16; loads it as it is in bfloat16, writes one report and draws
one picture of 512 px with guidance. Linux only: memory comes from /proc. Prints a table and writes
<out>/<date>_full_size.json and .md; exits with 1 when a bound is broken. The directory is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import tokenizers
import torch

import unixcxr
from unixcxr.config import KlAutoencoderConfig, ModelConfig
from unixcxr.model.autoencoder import KlAutoencoder
from unixcxr.model.foreign import released_json, released_name
from unixcxr.model.unix import UniX

GIB = 1 << 30
BYTES_NEEDED = 7 * GIB
MEMORY_LIMIT = 24 * GIB
LOADING_LIMIT = 1.15
POOL = 1 << 23
BF16_ONE = b"\x80\x3f"

UNUSED = {
    "vit_pos_embed.pos_embed": (576, 2048),
    "vit_model.vision_tower.attn_pool.latent": (1, 1, 1024),
    "vit_model.vision_tower.attn_pool.q.weight": (1024, 1024),
    "vit_model.vision_tower.attn_pool.q.bias": (1024,),
    "vit_model.vision_tower.attn_pool.kv.weight": (2048, 1024),
    "vit_model.vision_tower.attn_pool.kv.bias": (2048,),
    "vit_model.vision_tower.attn_pool.proj.weight": (1024, 1024),
    "vit_model.vision_tower.attn_pool.proj.bias": (1024,),
    "vit_model.vision_tower.attn_pool.norm.weight": (1024,),
    "vit_model.vision_tower.attn_pool.norm.bias": (1024,),
    "vit_model.vision_tower.attn_pool.mlp.fc1.weight": (4096, 1024),
    "vit_model.vision_tower.attn_pool.mlp.fc1.bias": (4096,),
    "vit_model.vision_tower.attn_pool.mlp.fc2.weight": (1024, 4096),
    "vit_model.vision_tower.attn_pool.mlp.fc2.bias": (1024,),
}
"""Tensors that the release holds and nothing reads."""


def main() -> int:
    """Build, measure, write, delete."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to build")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--num-tokens", type=int, default=32)
    parser.add_argument("--num-steps", type=int, default=2, help="2 or more: the first holds the prefix too")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="bfloat16", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.dtype, options.num_tokens, options.num_steps)))
        return 0
    free = shutil.disk_usage(options.folder).free
    if free < BYTES_NEEDED:
        print(
            f"{options.folder}: {free / GIB:.1f} GiB free, {BYTES_NEEDED / GIB:.0f} GiB needed; name another --folder",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stopped run deletes what it built
    facts = machine_facts()
    with tempfile.TemporaryDirectory(prefix="unixcxr-full-size-", dir=options.folder) as name:
        built = build(Path(name))
        converted = run_measure(name, "float16", 0, 0)
        as_it_is = run_measure(name, "bfloat16", options.num_tokens, options.num_steps)
    results = {**facts, "build": built, "float16": converted, "bfloat16": as_it_is}
    results["bounds"] = check_bounds(results)
    write_results(results, options.out)
    return 0 if all(bound["holds"] for bound in results["bounds"]) else 1


def build(directory: Path) -> dict[str, Any]:
    """Write the released layout at full size; return how long it took and how large it is."""
    started = time.perf_counter()
    config = ModelConfig()
    with torch.device("meta"):
        model, autoencoder = UniX(config), KlAutoencoder(KlAutoencoderConfig())
    shapes = {released_name(name): tuple(t.shape) for name, t in model.state_dict().items()} | UNUSED
    shapes["vit_model.vision_tower.pos_embed"] = (1, *shapes["vit_model.vision_tower.pos_embed"])
    pool = (0.02 * torch.randn(POOL, generator=torch.Generator().manual_seed(0))).bfloat16()
    noise = pool.view(torch.int16).numpy().tobytes() * 2
    write_random(directory / "model.safetensors", shapes, noise)
    (directory / "vae").mkdir()
    codec_shapes = {name: tuple(tensor.shape) for name, tensor in autoencoder.state_dict().items()}
    write_random(directory / "vae" / "kl-f16d16.safetensors", codec_shapes, noise)
    (directory / "config.json").write_text(json.dumps(released_json(config)))
    write_tokenizer(directory / "tokenizer.json", config)
    return {
        "seconds": time.perf_counter() - started,
        "num_tensors": len(shapes),
        "num_parameters": sum(map(prod, shapes.values())),
        "num_autoencoder_parameters": sum(map(prod, codec_shapes.values())),
        "bytes": sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
        "peak_memory_bytes": memory("VmHWM"),
    }


def write_random(path: Path, shapes: dict[str, tuple[int, ...]], noise: bytes) -> None:
    """Write bfloat16 tensors as safetensors, one after the other: norms 1, all else from a pool of noise."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for number, (name, shape) in enumerate(shapes.items()):
            is_norm = "norm" in name and name.endswith("weight")
            if is_norm:
                file.write(BF16_ONE * prod(shape))
            else:
                write_noise(file, 2 * prod(shape), noise, 2 * (number * 7919 % POOL))


def write_noise(file: BinaryIO, num_bytes: int, noise: bytes, offset: int) -> None:
    """Write so many bytes of a pool that holds its noise twice, from an offset and round."""
    window = memoryview(noise)[offset : offset + len(noise) // 2]
    for first in range(0, num_bytes, len(window)):
        file.write(window[: num_bytes - first])


def write_tokenizer(path: Path, config: ModelConfig) -> None:
    """Write a byte-level tokenizer of the release's size, with the special tokens at the release's ids."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate(alphabet)}
    vocab |= {f"word{number}": number for number in range(len(vocab), config.tokens.bos)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([f"<{n}>" for n in range(len(vocab), config.transformer.vocab_size)])
    assert tokenizer.get_vocab_size() == config.transformer.vocab_size
    assert tokenizer.token_to_id(f"<{config.tokens.end_of_image}>") == config.tokens.end_of_image
    tokenizer.save(str(path))


def run_measure(directory: str, dtype: str, num_tokens: int, num_steps: int) -> dict[str, Any]:
    """Measure in a process of its own, so that building leaves no trace in its memory."""
    command = [sys.executable, __file__, "--measure", directory, "--dtype", dtype]
    command += ["--num-tokens", str(num_tokens), "--num-steps", str(num_steps)]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}  # as the command line sets it
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    measured: dict[str, Any] = json.loads(run.stdout)
    return measured


def measure(directory: Path, dtype: str, num_tokens: int, num_steps: int) -> dict[str, Any]:
    """Load the model; with `num_tokens` read a phantom and draw one picture; return times and memory."""
    from unixcxr.phantom import sample_phantom
    from unixcxr.sampling.engine import load_engine

    image = sample_phantom(0, 512).image
    before = memory("RssAnon")
    started = time.perf_counter()
    with watched_memory() as peak:
        engine = load_engine(directory, dtype=dtype)
    tensors = [*engine.model.parameters(), *engine.autoencoder.parameters()]
    weights = sum(t.nbytes for t in tensors)
    measured: dict[str, Any] = {
        "load_seconds": time.perf_counter() - started,
        "weights_bytes": weights,
        "rss_anon_before_bytes": before,
        "rss_anon_after_bytes": memory("RssAnon"),
        "rss_anon_peak_while_loading_bytes": peak[0],
        "loading_relative_to_weights": (peak[0] - before) / weights,
    }
    if num_tokens:
        with watched_memory() as peak:
            measured["report"] = time_report(engine, image, num_tokens)
            measured["picture"] = time_picture(engine, num_steps)
        measured["rss_anon_peak_while_running_bytes"] = peak[0]
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    return {**measured, "peak_memory_bytes": memory("VmHWM"), "num_reads_from_disk": faults}


def time_report(engine: Any, image: Any, num_tokens: int) -> dict[str, Any]:
    """Write one report; return the seconds of vision and prefix, and of each token."""
    from unixcxr.sampling.prefix import encode_prefix
    from unixcxr.sampling.text import TextSettings, decode

    settings = TextSettings(max_new_tokens=num_tokens)
    example = engine.reading(image, engine.config.sampling.report_prompt)
    clock = [time.perf_counter()]
    prefix = encode_prefix(engine.model, [example], 0)
    clock.append(time.perf_counter())
    busy = time.process_time()
    tokens = []
    for step in decode(engine.model, prefix, settings, [0]):
        clock.append(time.perf_counter())
        tokens += [(token.token_id, token.logprob) for token in step]
    busy = time.process_time() - busy
    report = engine.finish_report(image, engine.config.sampling.report_prompt, settings, 0, tokens)
    spent = [b - a for a, b in pairwise(clock[1:])]
    return {
        "num_tokens": len(report.token_ids),
        "num_prefix_tokens": int(prefix.cache.length),
        "cache_bytes_per_token": prefix.cache.num_bytes // prefix.cache.length,
        "vision_and_prefix_seconds": clock[1] - clock[0],
        "first_token_seconds": spent[0],
        "seconds_per_token": statistics.median(spent[1:]),
        "fastest_token_seconds": min(spent),
        "processor_seconds_per_token": busy / len(spent),
    }


def time_picture(engine: Any, num_steps: int) -> dict[str, Any]:
    """Draw one picture with guidance; return the seconds of the first step, of a later one, and of decoding."""
    clock, busy = [time.perf_counter()], [time.process_time()]

    def note(done: int, total: int) -> None:
        clock.append(time.perf_counter())
        busy.append(time.process_time())

    picture = engine.draw_image(
        "Large right pleural effusion.",
        num_steps=num_steps,
        guidance_scale=2.0,
        progress=note,
    )
    clock.append(time.perf_counter())
    spent = [b - a for a, b in pairwise(clock)]
    return {
        "size_px": list(picture.settings["size_px"]),
        "num_latents": len(picture.latent),
        "num_steps": num_steps,
        "network_rows_per_step": 2,
        "prefix_and_first_step_seconds": spent[0],
        "seconds_per_step": statistics.median(spent[1:-1]),
        "processor_seconds_per_step": (busy[-1] - busy[1]) / (num_steps - 1),
        "decoding_seconds": spent[-1],
    }


def memory(field: str) -> int:
    """Return a field of /proc/self/status in bytes, such as RssAnon or VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """Give a list whose only item becomes the largest RssAnon seen in the block."""
    peak, done = [memory("RssAnon")], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak[0] = max(peak[0], memory("RssAnon"))


def machine_facts() -> dict[str, Any]:
    """Say what this ran on, with which versions, and how busy the machine was."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "processor": names[0].partition(": ")[2] if names else "unknown",
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average_before": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "safetensors": safetensors.__version__,
            "unixcxr": unixcxr.__version__,
        },
    }


def check_bounds(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each bound with what was measured."""
    found = {
        "RssAnon while loading as float16 / weights": (
            results["float16"]["loading_relative_to_weights"],
            LOADING_LIMIT,
        ),
        "RssAnon while loading as bfloat16 / weights": (
            results["bfloat16"]["loading_relative_to_weights"],
            LOADING_LIMIT,
        ),
        "peak memory of the run, GiB": (
            results["bfloat16"]["peak_memory_bytes"] / GIB,
            MEMORY_LIMIT / GIB,
        ),
    }
    return [
        {"quantity": name, "measured": value, "bound": bound, "holds": value <= bound}
        for name, (value, bound) in found.items()
    ]


def as_table(results: dict[str, Any]) -> str:
    """Write the results as a Markdown table."""
    native, report, picture = (
        results["bfloat16"],
        results["bfloat16"]["report"],
        results["bfloat16"]["picture"],
    )
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    size = "x".join(map(str, picture["size_px"]))

    def gib(num_bytes: int) -> str:
        return f"{num_bytes / GIB:.2f} GiB"

    rows = [
        ("machine", f"{results['processor']}, {results['num_cpus']} CPUs, {gib(results['memory_bytes'])}"),
        ("threads; load average before", f"{results['num_threads']}; {results['load_average_before']:.1f}"),
        ("versions; date", f"{versions}; {results['date']}"),
        (
            "parameters",
            f"{results['build']['num_parameters']:,} in {results['build']['num_tensors']} tensors",
        ),
        ("autoencoder parameters", f"{results['build']['num_autoencoder_parameters']:,}"),
        ("directory", gib(results["build"]["bytes"])),
        ("load as bfloat16, mapped from the file", f"{native['load_seconds']:.1f} s"),
        (
            "RssAnon gained while loading as bfloat16",
            f"{native['loading_relative_to_weights']:.3f} x weights",
        ),
        ("load converted to float16", f"{results['float16']['load_seconds']:.1f} s"),
        (
            "RssAnon gained while loading as float16",
            f"{results['float16']['loading_relative_to_weights']:.3f} x weights",
        ),
        (
            f"vision and prefix, {report['num_prefix_tokens']} tokens",
            f"{report['vision_and_prefix_seconds']:.1f} s",
        ),
        (
            f"one token (median of {report['num_tokens'] - 1})",
            f"{report['seconds_per_token']:.2f} s; fastest {report['fastest_token_seconds']:.2f} s; "
            f"{report['processor_seconds_per_token']:.2f} s of processor time",
        ),
        ("keys and values of one token", f"{report['cache_bytes_per_token'] / 1024:.0f} KiB"),
        (f"prefix and first step, {size} px", f"{picture['prefix_and_first_step_seconds']:.1f} s"),
        (
            f"one later step, {picture['num_latents']} latents, guidance on",
            f"{picture['seconds_per_step']:.1f} s; {picture['processor_seconds_per_step']:.1f} s of processor time",
        ),
        (f"decoding the picture, {size} px", f"{picture['decoding_seconds']:.1f} s"),
        (
            "largest RssAnon while reading and drawing",
            gib(native["rss_anon_peak_while_running_bytes"]),
        ),
        ("peak memory, pages of the file included (VmHWM)", gib(native["peak_memory_bytes"])),
        ("pages that had to come from disk (major faults)", f"{native['num_reads_from_disk']:,}"),
    ]
    lines = ["| quantity | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


def write_results(results: dict[str, Any], out: Path) -> None:
    """Write the JSON and the table, and print both."""
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"{results['date']}_full_size"
    text, table = json.dumps(results, indent=2) + "\n", as_table(results)
    stem.with_suffix(".json").write_text(text)
    stem.with_suffix(".md").write_text(table)
    print(text)
    print(table)
    for bound in results["bounds"]:
        print(f"{'holds' if bound['holds'] else 'BROKEN'}: {bound}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
