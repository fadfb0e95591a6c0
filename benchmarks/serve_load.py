"""How does `unixcxr serve` behave under load: latency, throughput, memory, honesty, and what batching brings?

    OMP_NUM_THREADS=1 python benchmarks/serve_load.py [--duration 300] [--model embedded] [--out FOLDER]

Starts the server as users do, and then: 1 to 64 clients that read phantoms and now and then draw (half of the
time); 16 such clients steadily while memory is watched (a third); 16 clients that only read, against one server
that batches and one that does one report at a time (the rest). Exits with 1 when a promise is broken: an answer
that is neither a result nor an honest 429, memory that grows by 5 % after warm-up, batching below 3 times.
Writes FOLDER/<date>_serve_load.json and .md.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from unixcxr.phantom import sample_phantom

CLIENTS = (1, 2, 4, 8, 16, 32, 64)
DRAW_SHARE = 0.1
GROWTH_LIMIT = 0.05
BATCHING_WANTED = 3.0
NUM_FILMS = 150
HONEST = frozenset({"200", "429"})


@dataclass
class Tally:
    """What the clients of one phase saw; times in seconds."""

    num_clients: int
    lasted_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    read_s: list[float] = field(default_factory=list)
    draw_s: list[float] = field(default_factory=list)
    num_tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def row(self) -> dict[str, Any]:
        """Return the numbers of the phase."""
        return {
            "clients": self.num_clients,
            "seconds": round(self.lasted_s, 1),
            "outcomes": dict(self.outcomes),
            "reports_per_s": round(len(self.read_s) / self.lasted_s, 3),
            "pictures_per_s": round(len(self.draw_s) / self.lasted_s, 3),
            "tokens_per_s": round(self.num_tokens / self.lasted_s, 1),
            "read_p50_s": _percentile(self.read_s, 50),
            "read_p95_s": _percentile(self.read_s, 95),
            "draw_p50_s": _percentile(self.draw_s, 50),
            "draw_p95_s": _percentile(self.draw_s, 95),
        }


class Clients:
    """People who read and draw, one request after another each, until told to stop."""

    def __init__(self, port: int, films: Sequence[bytes], draw_share: float) -> None:
        self.port = port
        self.films = films
        self.draw_share = draw_share

    def run(self, num_clients: int, duration_s: float) -> Tally:
        """Let so many clients ask for so long; requests that are under way at the end count too."""
        tally = Tally(num_clients)
        started = time.monotonic()
        threads = [
            threading.Thread(target=self._one, args=(seed, started + duration_s, tally))
            for seed in range(num_clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tally.lasted_s = time.monotonic() - started
        return tally

    def _one(self, seed: int, until: float, tally: Tally) -> None:
        chance = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        while time.monotonic() < until:
            is_drawing = chance.random() < self.draw_share
            path, body = self._drawing(chance) if is_drawing else self._reading(chance)
            started = time.monotonic()
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
                outcome = str(response.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                outcome = type(error).__name__
            seconds = time.monotonic() - started
            with tally.lock:
                tally.outcomes[outcome] += 1
                if outcome == "200":
                    (tally.draw_s if is_drawing else tally.read_s).append(seconds)
                    if not is_drawing:
                        tally.num_tokens += json.loads(content)["usage"]["completion_tokens"]
            if outcome == "429":
                time.sleep(min(float(response.headers["Retry-After"]), max(0.0, until - time.monotonic())))
        connection.close()

    def _reading(self, chance: random.Random) -> tuple[str, bytes]:
        picture = {"type": "image_url", "image_url": {"url": chance.choice(self.films).decode()}}
        chat = {"model": "unixcxr", "force": True, "messages": [{"role": "user", "content": [picture]}]}
        return "/v1/chat/completions", json.dumps(chat).encode()

    def _drawing(self, chance: random.Random) -> tuple[str, bytes]:
        wanted = {"prompt": "Large right pleural effusion.", "seed": chance.randrange(1000)}
        return "/v1/draw", json.dumps(wanted).encode()


class Memory:
    """Watches the resident memory of the server and its child, once a second."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = pids
        self.samples: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            self.samples.append(sum(_resident_bytes(pid) for pid in self.pids))

    def growth(self) -> float:
        """Return how much more the last quarter holds than the second: the first is warm-up."""
        quarter = max(1, len(self.samples) // 4)
        before = statistics.median(self.samples[quarter : 2 * quarter])
        return statistics.median(self.samples[-quarter:]) / before - 1


@contextmanager
def server(model: str, *options: str) -> Iterator[tuple[int, list[int]]]:
    """Run `unixcxr serve`; yield its port, and the ids of its two processes."""
    code = "from unixcxr.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--model", model, "--port", "0", "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        started = time.monotonic()
        ready = json.loads(process.stdout.readline())
        print(f"serving {ready['model']} after {time.monotonic() - started:.1f} s", file=sys.stderr)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(ready["url"].rpartition(":")[2]), [process.pid, *map(int, children)]
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()


def measure(model: str, duration_s: float, levels: Sequence[int] = CLIENTS) -> dict[str, Any]:
    """Run all phases; return their numbers and what of the promises is broken."""
    films = [_film(seed) for seed in range(NUM_FILMS)]
    with server(model) as (port, pids):
        clients = Clients(port, films, DRAW_SHARE)
        clients.run(2, 3.0)
        ladder = []
        for num_clients in levels:
            ladder.append(clients.run(num_clients, duration_s / 2 / len(levels)).row())
            print(json.dumps(ladder[-1]), file=sys.stderr)
        with Memory(pids) as memory:
            steady = clients.run(16, duration_s / 3).row()
        batched = Clients(port, films, 0.0).run(16, duration_s / 12).row()
    with server(model, "--max-reports", "1") as (port, _):
        clients = Clients(port, films, 0.0)
        clients.run(1, 2.0)
        single = clients.run(16, duration_s / 12).row()
    gain = batched["tokens_per_s"] / max(single["tokens_per_s"], 1e-9)
    rows = [*ladder, steady, batched, single]
    broken = [f"answers {row['outcomes']}" for row in rows if not row["outcomes"].keys() <= HONEST]
    growth = memory.growth()
    if growth >= GROWTH_LIMIT:
        broken.append(f"memory grew by {growth:.1%}")
    if gain < BATCHING_WANTED:
        broken.append(f"batching gives {gain:.2f} times the tokens, wanted {BATCHING_WANTED}")
    return {
        "model": model,
        "duration_s": duration_s,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load_average": os.getloadavg(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "draw_share": DRAW_SHARE,
        "ladder": ladder,
        "steady": {**steady, "memory_mb": round(memory.samples[-1] / 1e6), "memory_growth": round(growth, 4)},
        "batched": batched,
        "one_at_a_time": single,
        "batching_gain": round(gain, 2),
        "broken": broken,
    }


def as_markdown(result: dict[str, Any]) -> str:
    """Return the result as a page."""
    lines = [
        "# Serving under load",
        "",
        f"`benchmarks/serve_load.py --duration {result['duration_s']:g}`, model {result['model']}, "
        f"{result['machine']}, OMP_NUM_THREADS {result['omp_num_threads']}, load average "
        f"{', '.join(f'{load:.1f}' for load in result['load_average'])} (other work shared the machine when it is "
        "above the number of cores).",
        "",
        "| clients | reports/s | tokens/s | pictures/s | read p50 s | p95 s | draw p50 s | p95 s | answers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    named = [(str(row["clients"]), row) for row in result["ladder"]]
    named += [("16, steady", result["steady"]), ("16, reading only", result["batched"])]
    named.append(("16, reading only, one at a time", result["one_at_a_time"]))
    keys = (
        "reports_per_s",
        "tokens_per_s",
        "pictures_per_s",
        "read_p50_s",
        "read_p95_s",
        "draw_p50_s",
        "draw_p95_s",
    )
    for name, row in named:
        cells = ["-" if row[key] is None else f"{row[key]:g}" for key in keys]
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(row["outcomes"].items()))
        lines.append(f"| {name} | {' | '.join(cells)} | {answers} |")
    steady = result["steady"]
    lines += [
        "",
        f"Memory of both processes {steady['memory_mb']} MB, growth after warm-up {steady['memory_growth']:.1%}. "
        f"Batching gives {result['batching_gain']} times the tokens of one report at a time.",
        "",
        f"Broken promises: {'; '.join(result['broken']) or 'none'}.",
    ]
    return "\n".join(lines) + "\n"


def _film(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(sample_phantom(seed, size_px=256).image).save(file, "PNG")
    return b"data:image/png;base64," + base64.b64encode(file.getvalue())


def _resident_bytes(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def _percentile(values: Sequence[float], percent: int) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 3)


def main() -> int:
    """Measure, print and write the results; return 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--duration", type=float, default=300.0, help="seconds in all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    result = measure(options.model, options.duration)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"{datetime.now():%Y-%m-%d}_serve_load"
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(as_markdown(result), encoding="utf-8")
    print(as_markdown(result))
    return 1 if result["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
