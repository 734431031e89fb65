"""Kernels: compiled once, kept on disk, and run on as many threads as torch uses, in torch's own team of them.

A second pool of threads, such as numba's, would compete with torch's for the cores, because a pool's threads spin for a
while after each parallel region. So a kernel is called by the OpenMP runtime that torch has loaded. Where that is not
GNU's, and in a forked child, where OpenMP must not be entered again, it runs on the calling thread.

A kernel takes the address of one array of integers: the number of items, of chunks, three options; then the address
and the three sizes of each of its arrays. The type of that address stands for the dtype of the numbers.
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from llvmlite import binding
from numba import carray, cfunc, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic

__all__ = ["OPTIONS", "array", "inlined", "kernel", "launch", "share", "table", "taken"]

# kept code is found again by its function's name and file: a change to any file of this package gives it another name
_SOURCES = sorted(Path(__file__).parent.glob("*.py"))
_DIGEST = sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:12]
_LEAST = 1 << 15  # numbers to be read, below which waking threads costs more than they save
_HEAD = 5
_Direct = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

# Sums may be reordered, once and for all when compiled, so that they fill a vector register; NaN and ±inf keep their
# meaning.
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
_place = types.ExternalFunction("flowvi_place", types.int32())
_size = types.ExternalFunction("flowvi_size", types.int32())


def inlined(function: Callable[..., Any]) -> Any:
    """A part of kernels."""
    # called by kernels only: wrappers for other callers would double the time it takes to compile
    wrappers: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(**wrappers, **OPTIONS)(function)


@intrinsic
def _integers(context, data):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.intp)(data), generate


@intrinsic
def _doubles(context, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(types.intp), generate


@intrinsic
def _reals(context, address, data):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return data(types.intp, data), generate


@inlined
def share(data):
    """The first of a thread's items, the one after its last, the chunks and the options."""
    d = carray(_integers(data), (_HEAD,))
    place, size = _place(), _size()
    return d[0] * place // size, d[0] * (place + 1) // size, d[1], d[2] != 0, d[3] != 0, d[4] != 0


@inlined
def taken(item, rows, chunks, points):
    """The row of parameters of an item, and which points it takes: one of `chunks` shares of the row's."""
    chunk = item // rows
    return item % rows, chunk * points // chunks, (chunk + 1) * points // chunks


@inlined
def array(data, i):
    """Array i, of the dtype that `data` points to."""
    at = _HEAD + 4 * i
    d = carray(_integers(data), (at + 4,))
    return carray(_reals(d[at], data), (d[at + 1], d[at + 2], d[at + 3]))


@inlined
def table(data, i):
    """Array i, of float64."""
    at = _HEAD + 4 * i
    d = carray(_integers(data), (at + 4,))
    return carray(_doubles(d[at]), (d[at + 1], d[at + 2], d[at + 3]))


def kernel(body: Callable[..., None]) -> Callable[[torch.dtype], int]:
    """`body(data)` as machine code: a function of the dtype that gives its address."""
    body.__qualname__ += f"-{_DIGEST}"

    @cache
    def address(dtype: torch.dtype) -> int:
        _openmp()  # its names are looked up when the code is loaded
        signature = types.void(types.CPointer(types.float32 if dtype == torch.float32 else types.float64))
        try:
            code = cfunc(signature, cache=True, **OPTIONS)(body)
        except RuntimeError:  # nowhere to keep it: neither beside the module nor in the user's cache
            code = cfunc(signature, **OPTIONS)(body)
        return cast(int, code.address)

    return address


def launch(address: int, items: int, chunks: int, options: Sequence[int], arrays: list[Any], work: int) -> None:
    """Run a kernel's items, in parallel where `work`, the numbers that it reads, is worth it."""
    places = [number for each in arrays for number in (each.ctypes.data, *each.shape)]
    data = np.array([items, chunks, *options, *places], dtype=np.intp)
    shares, parallel = min(torch.get_num_threads(), items), _openmp()
    if parallel is None or shares == 1 or work < _LEAST or _Fork.happened:
        _Direct(address)(data.ctypes.data)
    else:
        parallel(address, data.ctypes.data, shares, 0)


class _Fork:
    happened = False

    @classmethod
    def note(cls) -> None:
        cls.happened = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Fork.note)


@cache
def _openmp() -> Callable[..., None] | None:
    """GOMP_parallel(kernel, data, threads, flags) of the library that torch has loaded."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            library = ctypes.CDLL(str(path))
            parallel, place, size = library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads
        except (OSError, AttributeError):
            continue
        parallel.argtypes, parallel.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
        _name(ctypes.cast(place, ctypes.c_void_p).value, ctypes.cast(size, ctypes.c_void_p).value)
        return parallel
    logging.getLogger("flowvi").info("torch has no GNU OpenMP here: fused chains run on one thread")
    _name(cfunc(types.int32())(lambda: 0).address, cfunc(types.int32())(lambda: 1).address)
    return None


def _name(place: Any, size: Any) -> None:
    binding.add_symbol("flowvi_place", place)
    binding.add_symbol("flowvi_size", size)
