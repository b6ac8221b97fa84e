"""Let peers take the same steps in turns, each in its own process.

Thus the threads of one peer never disturb another: the threads of a pool spin for a while after
their work, which would slow the next peer in the same process. Between two turns there is a pause
in which they fall asleep, and a peer whose turn it is not waits for a message.
"""

import contextlib
import math
import multiprocessing
import os
import time

from peers import Absent, peer_called

__all__ = ["costs_differ", "take_turns", "threads_in"]

PAUSE = 0.1  # seconds; OpenBLAS's threads spin for about 0.03 on the machine this was written on


def take_turns(work, peers, *, data, threads, blocks):
    """Check that all peers do the same work, then time them.

    Args:
        work: The name of the work.
        peers: The names of the peers, with pydnn first.
        data: The folder with the photos.
        threads: Number of threads of each peer.
        blocks: Number of turns of each peer.

    Returns:
        The seconds per step of each turn by peer, and the reasons why others were left out.
    """
    seconds, absent = {}, {}
    with contextlib.ExitStack() as stack, threads_in(os.environ, threads):
        talks = {}
        for peer in peers:
            talk = stack.enter_context(_started(work, peer, data, threads))
            steps, rtol, reason = talk.recv()
            if reason:
                absent[peer] = reason
            else:
                talks[peer] = talk
        expected = None
        for block in range(-2, blocks):  # the first warms up, the second compares costs
            for peer, talk in talks.items():
                time.sleep(PAUSE)
                talk.send("a turn")
                taken, costs = talk.recv()
                if block >= 0:
                    seconds.setdefault(peer, []).append(taken / steps)
                elif block == -1:
                    expected = expected or costs
                    if costs_differ(costs, expected, rtol):
                        raise SystemExit(
                            f"{work}: the costs of {peer} are not those of {peers[0]} to {rtol:g}: "
                            f"{costs[:3]} … {costs[-1]}, expected {expected[:3]} … {expected[-1]}"
                        )
    return seconds, absent


def costs_differ(costs, expected, rtol):
    """Return whether any cost differs by more than `rtol` times the first expected cost.

    The cost of an epoch is compared with the mean of the expected costs of its steps.
    """
    if not costs:
        return False
    size = len(expected) // len(costs)
    means = [math.fsum(expected[k : k + size]) / size for k in range(0, len(expected), size)]
    pairs = zip(costs, means, strict=True)
    # Not `any(... > ...)`, which is False for NaN.
    return not all(abs(a - b) <= rtol * expected[0] for a, b in pairs)


@contextlib.contextmanager
def threads_in(environment, threads):
    """Set the number of threads of all libraries in processes that start within the block."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    before = {name: environment.get(name) for name in names}
    environment.update(dict.fromkeys(names, str(threads)))
    # JAX uses one thread per core that it may use.
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        for name, value in before.items():
            environment.pop(name)
            if value is not None:
                environment[name] = value


@contextlib.contextmanager
def _started(work, peer, data, threads):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, peer, data, threads), daemon=True)
    process.start()
    theirs.close()  # so that receiving fails if the process ends
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _serve(talk, work, peer, data, threads):
    from works import work_called  # here, to keep the measuring process small

    work = work_called(work, data)
    try:
        begin = peer_called(peer)(work)
    except Absent as reason:
        talk.send((work.steps, work.rtol, str(reason)))
        return
    talk.send((work.steps, work.rtol, ""))
    with contextlib.suppress(EOFError):  # when there are no more turns
        while talk.recv():
            turn = begin()
            start = time.perf_counter()
            costs = turn()
            talk.send((time.perf_counter() - start, costs))
