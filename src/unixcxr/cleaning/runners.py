"""Where chunks are worked on: this process, all cores of this machine, or a Ray cluster. The result is the same."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from unixcxr.cleaning.work import ChunkTask, read_plan, run_chunk, write_plan
from unixcxr.errors import ConfigError

Done = Callable[[ChunkTask], None]


class Runner(Protocol):
    """Something that works through chunks in any order and says when each is done."""

    def run(self, tasks: Iterable[ChunkTask], done: Done) -> None:
        """Run every task; call `done` in this process after each."""
        ...


class LocalRunner:
    """Processes of this machine, started afresh ("spawn") so that nothing of the caller leaks into them.

    Ctrl-C lets the chunks in work finish, drops the rest and raises KeyboardInterrupt. A file that kills its worker
    (a decoder's fault, or too little memory) is found by running the chunks in work alone, and its study is dropped.
    Asked for one worker, it works in this process, which such a file would kill.
    """

    def __init__(self, num_workers: int | None = None) -> None:
        self.num_workers = num_workers or _num_cores()
        self._is_inline = num_workers == 1

    def run(self, tasks: Iterable[ChunkTask], done: Done) -> None:
        waiting = iter(tasks)
        if self._is_inline:
            for task in waiting:
                run_chunk(task)
                done(task)
            return
        while True:
            suspects = self._run_pool(waiting, done)
            if not suspects:
                return
            for task in suspects:
                _run_alone(task)
                done(task)

    def _run_pool(self, waiting: Iterable[ChunkTask], done: Done) -> list[ChunkTask]:
        """Run tasks until they end, or a worker dies: then return the tasks that were in work."""
        pool = _pool(self.num_workers)
        in_work: dict[Future[str], ChunkTask] = {}
        try:
            while True:
                for task in islice(waiting, 2 * self.num_workers - len(in_work)):
                    in_work[pool.submit(run_chunk, task)] = task
                if not in_work:
                    return []
                finished, _ = wait(in_work, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    done(in_work.pop(future))
        except BrokenProcessPool:
            return list(in_work.values())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _num_cores() -> int:
    """Return the cores that this process may use; not every system tells them from those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool(num_workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        num_workers, mp_context=get_context("spawn"), initializer=_leave_ctrl_c_to_the_parent
    )


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _survives(task: ChunkTask) -> bool:
    with _pool(1) as pool:
        try:
            pool.submit(run_chunk, task).result()
        except BrokenProcessPool:
            return False
    return True


def _run_alone(task: ChunkTask) -> None:
    """Run a chunk in a process of its own; if that dies, find the studies that kill it and run it without them."""
    if _survives(task):
        return
    fingerprint, found = read_plan(Path(task.plan_path))
    crashed = set()
    for number, study in enumerate(found):
        probe = Path(f"{task.plan_path.removesuffix('.plan')}.probe{number}.plan")
        write_plan(probe, fingerprint, [study])
        trial = dataclasses.replace(task, plan_path=str(probe))
        if not _survives(trial):
            crashed.add(study.study.id)
        for path in (probe, trial.rows_path, trial.pictures_path):
            path.unlink(missing_ok=True)
    run_chunk(dataclasses.replace(task, crashed=frozenset(crashed)))


class RayRunner:
    """A Ray cluster whose machines share the output folder. `address` "" is a cluster of this machine's own.

    Raises ConfigError when ray is not installed.
    """

    def __init__(self, num_workers: int | None = None, address: str = "") -> None:
        self.num_workers = num_workers
        self.address = address

    def run(self, tasks: Iterable[ChunkTask], done: Done) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise ConfigError('ray is not installed; type: pip install "unixcxr[ray]"') from None
        started_here = not ray.is_initialized()
        if started_here:
            options = (
                {"address": self.address}
                if self.address
                else {"num_cpus": self.num_workers, "include_dashboard": False}
            )
            ray.init(log_to_driver=False, **options)
        try:
            _run_on_ray(ray, iter(tasks), done, 2 * int(ray.cluster_resources().get("CPU", 1)))
        finally:
            if started_here:
                ray.shutdown()


def _run_on_ray(ray, waiting: Iterable[ChunkTask], done: Done, most_in_work: int) -> None:
    remote = ray.remote(max_retries=3)(run_chunk)
    in_work: dict[object, ChunkTask] = {}
    while True:
        for task in islice(waiting, most_in_work - len(in_work)):
            in_work[remote.remote(task)] = task
        if not in_work:
            return
        (ready,), _ = ray.wait(list(in_work), num_returns=1)
        task = in_work.pop(ready)
        try:
            ray.get(ready)
        except ray.exceptions.WorkerCrashedError:
            _run_alone(task)
        done(task)


RUNNERS: dict[str, Callable[[int | None], Runner]] = {"local": LocalRunner, "ray": RayRunner}


def make_runner(name: str, num_workers: int | None = None) -> Runner:
    """Return a runner by name. Raises ConfigError naming the known ones."""
    if name not in RUNNERS:
        raise ConfigError(f"unknown runner {name!r}; choose one of {', '.join(RUNNERS)}")
    return RUNNERS[name](num_workers)
