"""Serving: HTTP routes, a queue of jobs, and the supervised process that holds the model.

    app.py      routes, in OpenAI's shape and plain        schema.py   what goes over the wire as JSON
    jobs.py     queue, fairness, deadlines, cancelling     guard.py    tokens, limits, headers
    runner.py   where work runs: a child or this process   worker.py   the model's side of the pipe
    server.py   the web process and its end                replicas.py many of them, on Ray
    wire.py     messages as JSON and bytes, no pickles     page/       the page, own static files

The web process imports no torch; what the model answers is computed in `sampling`.
"""
