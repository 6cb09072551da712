"""One block on each core: many small products gain nothing from being shared out one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def side_by_side(work: Callable[[int], T], count: int, device: str | torch.device = "cpu") -> Iterator[T]:
    """``work`` of 0 to ``count`` - 1, in order; on a CPU as many at once as torch has threads, each on one core."""
    threads = torch.get_num_threads()
    if torch.device(device).type != "cpu" or min(threads, count) <= 1:
        yield from map(work, range(count))
        return
    pool = ThreadPoolExecutor(min(threads, count), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, range(count))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
