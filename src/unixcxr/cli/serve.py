"""`unixcxr serve`: the page and the API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from unixcxr.cli import options
from unixcxr.cli.console import print_json, say
from unixcxr.errors import ConfigError


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen at; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    model: options.Model = "embedded",
    device: options.Device = "cpu",
    dtype: options.DType = "float32",
    max_queue: Annotated[int, typer.Option(min=0, help="Jobs that may wait; more get 429.")] = 64,
    max_reports: Annotated[int, typer.Option(min=1, help="Reports written at once.")] = 16,
    max_drawings: Annotated[int, typer.Option(min=1, help="Drawings at once.")] = 8,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds until a job is given up.")] = 300.0,
    max_upload_mb: Annotated[int, typer.Option(min=1, max=1024, help="Largest body of a request.")] = 64,
    max_megapixels: Annotated[int, typer.Option(min=1, max=80, help="Largest picture.")] = 40,
    drain_seconds: Annotated[float, typer.Option(min=0, help="Time for running jobs after SIGTERM.")] = 30.0,
    token_file: Annotated[
        Path | None, typer.Option(help="NAME HASH lines; every request then needs a token.")
    ] = None,
    make_token: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print a new token and its line for the file, and stop."),
    ] = None,
    rate_limit: Annotated[
        int, typer.Option(min=0, help="Requests a minute for each token or address; 0: no limit.")
    ] = 0,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name that this server goes by; repeat for more.")
    ] = None,
    open_to_all: Annotated[
        bool, typer.Option("--open-to-all", help="Listen beyond this machine without tokens.")
    ] = False,
    runner: Annotated[
        Literal["process", "ray"], typer.Option(help="Where it runs: this machine, or a Ray cluster (extra).")
    ] = "process",
    replicas: Annotated[int, typer.Option(min=1, help="Copies on the Ray cluster.")] = 1,
    json_lines: options.Json = False,
) -> int:
    """Serve the page and the API; the default is for this machine only.

    [bold]Example:[/bold] unixcxr serve --port 8080 --max-queue 32
    """
    if make_token is not None:
        return _make_token(make_token, json_lines)
    from unixcxr.hub import repo_id_of
    from unixcxr.serve.server import Options, run, run_on_ray

    if runner == "process" and replicas > 1:
        raise ConfigError("--replicas has no effect here; it goes with --runner ray")

    def started(url: str, name: str) -> None:
        if json_lines:
            print_json({"url": url, "model": name})
        else:
            say(f"{url}  {name}; Ctrl-C stops")

    wanted = Options(
        host=host,
        port=port,
        model=repo_id_of(model),
        device=device,
        dtype=dtype,
        max_queue=max_queue,
        max_reports=max_reports,
        max_drawings=max_drawings,
        time_limit_s=time_limit,
        max_upload_mb=max_upload_mb,
        max_megapixels=max_megapixels,
        drain_s=drain_seconds,
        token_file=token_file,
        rate_per_minute=rate_limit,
        allowed_hosts=tuple(allowed_host or ()),
        is_open_to_all=open_to_all,
    )
    if runner == "ray":
        run_on_ray(wanted, replicas, started)
    else:
        run(wanted, started)
    return 0


def _make_token(name: str, json_lines: bool) -> int:
    from unixcxr.serve.server import make_token

    token, line = make_token(name)
    if json_lines:
        print_json({"token": token, "line": line})
    else:
        say(
            "give the token to the client, and put the line into the token file; the token is not kept anywhere"
        )
        print(f"{token}\n{line}")
    return 0
