"""flowjax in a process of its own: `python -m benchmarks.jax_worker`, a line of JSON in, a line of JSON out.

JAX and torch each keep a team of threads, which would compete for the cores in one process. Here the worker waits for
its standard input while torch's contenders run, and they wait for its answer.

Its requests: `{"make": NAME, "kind": given|static|head, "K": …, "D": …, "B": …, "C": …}` compiles a contender and says
whether its gradients are finite; `{"block": NAME, "calls": n}` gives milliseconds for each of n calls.

What is timed is `jit` of the gradients, forward and backward together, with the arrays as its arguments: less work for
each call than equinox's `filter_jit`, which flowjax's own training loop uses. The kinds are

- `given`: `Planar` layers scanned, with parameters (B, K, 2D + 1), one chain for each row (`vmap`);
- `static`: `planar_flow(…, invert=False)`, the direction whose sampling is fast, as documented; it has a permutation
  between layers;
- `head`: the same with `cond_dim=C` and `depth=0`, which makes its networks linear heads.
"""

# mypy: ignore-errors

from __future__ import annotations

import json
import os
import sys
import time

LAYER = 0.1  # size of random parameters


def main(threads: int) -> int:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints must not be taken for an answer
    _take(threads)
    jobs = {}
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line), jobs)
        except Exception as error:  # the other side decides what to do
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


def _take(threads: int) -> None:
    """Let XLA see only so many cores: its team has a thread for each that it sees. To be called before JAX starts."""
    os.environ["PJRT_NPROC"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _answer(request: dict, jobs: dict) -> dict:
    import jax

    if "make" in request:
        job = jobs[request["make"]] = _make(request["kind"], *(request[size] for size in "KDBC"))
        finite = all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(job()))
        return {"finite": finite}
    job, calls = jobs[request["block"]], request["calls"]
    start = time.perf_counter()
    for _ in range(calls):
        job()
    return {"ms": 1e3 * (time.perf_counter() - start) / calls}


def _make(kind: str, length: int, features: int, batch: int, context: int):
    """A function that waits for the gradients of one forward and backward pass."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    keys = jr.split(jr.key(0), 6)
    z, grad_z, grad_log_det = jr.normal(keys[0], (batch, features)), *_cotangents(keys[1], batch, features)
    h = jr.normal(keys[2], (batch, context)) if kind == "head" else None
    arrays, static = eqx.partition(_bijection(kind, keys[3], length, features, batch, context), eqx.is_inexact_array)

    def loss(arrays, z, h):
        def one(arrays, z, h):
            return eqx.combine(arrays, static).transform_and_log_det(z, h)

        axes = 0 if kind == "given" else None, 0, None if h is None else 0
        out, log_det = jax.vmap(one, axes)(arrays, z, h)
        return jnp.sum(out * grad_z) + jnp.sum(log_det * grad_log_det)

    gradient = jax.jit(jax.grad(loss, (0, 1) if h is None else (0, 1, 2)))
    return lambda: jax.block_until_ready(gradient(arrays, z, h))


def _bijection(kind: str, key, length: int, features: int, batch: int, context: int):
    import equinox as eqx
    import jax.numpy as jnp
    import jax.random as jr
    from flowjax.bijections import Planar, Scan
    from flowjax.distributions import StandardNormal
    from flowjax.flows import planar_flow
    from paramax import unwrap

    if kind != "given":
        extra = {"cond_dim": context, "width_size": 1, "depth": 0} if kind == "head" else {}
        flow = planar_flow(key, base_dist=StandardNormal((features,)), flow_layers=length, invert=False, **extra)
        return unwrap(flow).bijection
    layer = Planar(key, dim=features)
    values = LAYER * jr.normal(key, (batch, length, 2 * features + 1))
    assert jnp.ndim(layer.params) == 1
    return Scan(eqx.tree_at(lambda one: one.params, layer, values))


def _cotangents(key, batch: int, features: int):
    import jax.random as jr

    one, two = jr.split(key)
    return jr.normal(one, (batch, features)), jr.normal(two, (batch,))


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
