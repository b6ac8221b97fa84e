"""Threads that do the jobs of OpenBLAS's products, each on a core of its own.

OpenBLAS cuts a large product into a job for each thread, and the jobs wait for each other inside.
Where other processes work, the system may let two of its threads share one core. Then each job
waits until the other one's turn on the core ends. Beside two busy processes on two cores, a step of
a network 784-512-256-10 took 9 to 14 ms like that, and takes 6 to 8 with this team; alone it takes
2.5 either way.

OpenBLAS can be asked to hand its jobs to a function of its user, here `run`. It cuts the work as
before, so no bit changes. The threads of the team leave the core of the thread they work for, and
they wait in compiled code, without Python's lock: a thread looks for its next job until
`_PATIENCE` has passed, and then sleeps.

The functions are written in the language of LLVM, because that is ready in 15 milliseconds.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import binding

from pydnn.numerics import blas_threads
from pydnn.processors import usable_cores
from pydnn.records import AnyArray

__all__ = ["begin", "begin_for", "rest"]

_PATIENCE = 500_000  # nanoseconds; the next product of a middle network comes sooner
_LEAST = 1 << 18  # bytes
_MOST = 32  # threads of a team
_CORES = 1024  # in the sets of cores that the system takes

# Each thread waits at a gate of its own until the gate shows the number of its next job. The caller
# waits at the gate `end` until that shows the number of its round.
_TEXT = """
%gate = type { i32, i32, [120 x i8] }  ; the number, whether somebody sleeps here, a semaphore

@gates = global [MOST x %gate] zeroinitializer, align 128
@end = internal global %gate zeroinitializer, align 128
@threads = global [MOST x i32] zeroinitializer  ; how the system calls them
@size = global i32 0                            ; how many there are
@cores = global [MASK x i8] zeroinitializer     ; that they may use, one bit each
@avoided = global i32 -1                        ; the core of the caller, which they leave to it
@stopped = global i32 0
@taken = internal global i32 0                  ; 1 if a caller has the team, + 2 if Python wants it
@left = internal global i32 0                   ; jobs of this round that have not ended
@round = global i32 0
@function = internal global ptr null            ; of a job (place, data, argument)
@data = internal global ptr null
@step = internal global i64 0                   ; bytes from the data of a job to the next one's
@argument = internal global i32 0

declare i32 @pydnn_clock_gettime(i32, ptr)
declare i32 @pydnn_sem_wait(ptr)
declare i32 @pydnn_sem_post(ptr)
declare i32 @pydnn_sched_getcpu()
declare i32 @pydnn_sched_setaffinity(i32, i64, ptr)
declare i32 @pydnn_exec_blas_async(i64, ptr)
declare i32 @pydnn_exec_blas_async_wait(i64, ptr)

define internal i64 @now() {
  %time = alloca [2 x i64]
  call i32 @pydnn_clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %place = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %place
  %whole = mul i64 %seconds, 1000000000
  %sum = add i64 %whole, %rest
  ret i64 %sum
}

; Show a number at a gate. Whoever turns the mark of a sleeper back to 0 owes it a post.
define internal void @open(ptr %gate, i32 %number) {
  store atomic i32 %number, ptr %gate seq_cst, align 4
  %mark = getelementptr i8, ptr %gate, i64 4
  %slept = atomicrmw xchg ptr %mark, i32 0 seq_cst
  %sleeps = icmp ne i32 %slept, 0
  br i1 %sleeps, label %wake, label %done
wake:
  %semaphore = getelementptr i8, ptr %gate, i64 8
  call i32 @pydnn_sem_post(ptr %semaphore)
  br label %done
done:
  ret void
}

; Wait until a gate shows a number, or a later one.
define internal void @pass(ptr %gate, i32 %number) {
  %mark = getelementptr i8, ptr %gate, i64 4
  %semaphore = getelementptr i8, ptr %gate, i64 8
  %begin = call i64 @now()
  br label %look
look:
  %shown = load atomic i32, ptr %gate seq_cst, align 4
  %ahead = sub i32 %shown, %number
  %open = icmp sge i32 %ahead, 0
  br i1 %open, label %done, label %wait
wait:
  PAUSE
  %time = call i64 @now()
  %waited = sub i64 %time, %begin
  %tired = icmp ugt i64 %waited, PATIENCE
  br i1 %tired, label %mark_it, label %look
mark_it:
  store atomic i32 1, ptr %mark seq_cst, align 4
  %again = load atomic i32, ptr %gate seq_cst, align 4
  %ahead_again = sub i32 %again, %number
  %opened = icmp sge i32 %ahead_again, 0
  br i1 %opened, label %unmark, label %sleep
unmark:
  %still = atomicrmw xchg ptr %mark, i32 0 seq_cst
  %mine = icmp ne i32 %still, 0
  br i1 %mine, label %done, label %sleep
sleep:
  %failed = call i32 @pydnn_sem_wait(ptr %semaphore)
  %interrupted = icmp ne i32 %failed, 0
  br i1 %interrupted, label %sleep, label %look
done:
  ret void
}

; What a thread of the team does until it is stopped. Its gate shows the number `before` now.
define void @work(i64 %index, i32 %before) {
entry:
  %gate = getelementptr %gate, ptr @gates, i64 %index
  %job = add i64 %index, 1
  %job32 = trunc i64 %job to i32
  %place = sub i32 PLACE, %job32
  br label %next
next:
  %last = phi i32 [ %before, %entry ], [ %number, %go_on ]
  %number = add i32 %last, 1
  call void @pass(ptr %gate, i32 %number)
  %stop = load atomic i32, ptr @stopped seq_cst, align 4
  %stops = icmp ne i32 %stop, 0
  br i1 %stops, label %done, label %do
do:
  %function = load ptr, ptr @function
  %data = load ptr, ptr @data
  %step = load i64, ptr @step
  %argument = load i32, ptr @argument
  %bytes = mul i64 %step, %job
  %mine = getelementptr i8, ptr %data, i64 %bytes
  %round = load i32, ptr @round
  call void %function(i32 %place, ptr %mine, i32 %argument)
  %left = atomicrmw sub ptr @left, i32 1 seq_cst
  %final = icmp eq i32 %left, 1
  br i1 %final, label %report, label %go_on
report:
  call void @open(ptr @end, i32 %round)
  br label %go_on
go_on:
  br label %next
done:
  ret void
}

; Open the gate of a thread: for a job, or to end if @stopped is 1.
define void @advance(i32 %index) {
  %gate = getelementptr %gate, ptr @gates, i32 %index
  %last = load i32, ptr %gate
  %number = add i32 %last, 1
  call void @open(ptr %gate, i32 %number)
  ret void
}

; Take the team, or return 0 if another caller has it, or Python wants it.
define internal i32 @take() {
  %pair = cmpxchg ptr @taken, i32 0, i32 1 seq_cst seq_cst
  %took = extractvalue { i32, i1 } %pair, 1
  %result = zext i1 %took to i32
  ret i32 %result
}

define internal void @leave() {
  call i32 @clear(i32 2)
  ret void
}

; From now on no caller takes the team. Return 0 if one still has it.
define i32 @reserve() {
  %taken = atomicrmw or ptr @taken, i32 2 seq_cst
  %had = and i32 %taken, 1
  %free = xor i32 %had, 1
  ret i32 %free
}

; Keep only some bits of @taken.
define i32 @clear(i32 %kept) {
  %taken = atomicrmw and ptr @taken, i32 %kept seq_cst
  ret i32 %taken
}

; Keep the threads off the core of the caller, where they would wait until its turn ends.
define internal void @spread() {
  %cores = alloca [MASK x i8]
  %core = call i32 @pydnn_sched_getcpu()
  %avoided = load i32, ptr @avoided
  %same = icmp eq i32 %core, %avoided
  %strange = icmp uge i32 %core, CORES
  %nothing = or i1 %same, %strange
  br i1 %nothing, label %done, label %move
move:
  store i32 %core, ptr @avoided
  call void @llvm.memcpy.p0.p0.i64(ptr %cores, ptr @cores, i64 MASK, i1 false)
  %where = lshr i32 %core, 3
  %bit = and i32 %core, 7
  %place = getelementptr i8, ptr %cores, i32 %where
  %byte = load i8, ptr %place
  %bit8 = trunc i32 %bit to i8
  %one = shl i8 1, %bit8
  %others = xor i8 %one, -1
  %without = and i8 %byte, %others
  store i8 %without, ptr %place
  %size = load i32, ptr @size
  br label %next
next:
  %i = phi i32 [ 0, %move ], [ %more, %set ]
  %goes_on = icmp ult i32 %i, %size
  br i1 %goes_on, label %set, label %done
set:
  %at = getelementptr i32, ptr @threads, i32 %i
  %thread = load i32, ptr %at
  call i32 @pydnn_sched_setaffinity(i32 %thread, i64 MASK, ptr %cores)
  %more = add i32 %i, 1
  br label %next
done:
  ret void
}

; What OpenBLAS calls: do its jobs at the same time, the first one on this thread. If the team is
; taken, or there are too many jobs, OpenBLAS's own threads do the others. There may be none.
define void @run(i32 %sync, ptr %function, i32 %jobs, i64 %step, ptr %data, i32 %argument) {
entry:
  %others = sub i32 %jobs, 1
  %took = call i32 @take()
  %free = icmp ne i32 %took, 0
  br i1 %free, label %count, label %alone
count:
  %size = load i32, ptr @size
  %enough = icmp ule i32 %others, %size
  br i1 %enough, label %begin, label %too_few
too_few:
  call void @leave()
  br label %alone
alone:
  %second = getelementptr i8, ptr %data, i64 %step
  %number_of_others = sext i32 %others to i64
  %single = icmp eq i32 %others, 0
  br i1 %single, label %do_first, label %give
give:
  call i32 @pydnn_exec_blas_async(i64 1, ptr %second)
  br label %do_first
do_first:
  call void %function(i32 SPARE, ptr %data, i32 %argument)
  call i32 @pydnn_exec_blas_async_wait(i64 %number_of_others, ptr %second)
  ret void
begin:
  call void @spread()
  store ptr %function, ptr @function
  store ptr %data, ptr @data
  store i64 %step, ptr @step
  store i32 %argument, ptr @argument
  store i32 %others, ptr @left
  %before = load i32, ptr @round
  %round = add i32 %before, 1
  store i32 %round, ptr @round
  br label %next
next:
  %i = phi i32 [ 0, %begin ], [ %more, %call ]
  %goes_on = icmp ult i32 %i, %others
  br i1 %goes_on, label %call, label %own
call:
  call void @advance(i32 %i)
  %more = add i32 %i, 1
  br label %next
own:
  call void %function(i32 PLACE, ptr %data, i32 %argument)
  %was_alone = icmp eq i32 %others, 0
  br i1 %was_alone, label %done, label %wait
wait:
  call void @pass(ptr @end, i32 %round)
  br label %done
done:
  call void @leave()
  ret void
}

declare void @llvm.x86.sse2.pause()
declare void @llvm.aarch64.hint(i32)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""

_PAUSES = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.hint(i32 1)",
}
_OF_THE_SYSTEM = ("clock_gettime", "sem_wait", "sem_post", "sched_getcpu", "sched_setaffinity")
_OF_BLAS = ("exec_blas_async", "exec_blas_async_wait")


class _Team:
    """The threads, the functions that they run, and the OpenBLAS that gives them work.

    Raises:
        Exception: Of any kind, if this system or this OpenBLAS lacks something.
    """

    def __init__(self) -> None:
        system, blas = ctypes.CDLL(None), next(blas_threads.blas_libraries())
        for library, names in ((system, _OF_THE_SYSTEM), (blas, _OF_BLAS)):
            for name in names:
                function = ctypes.cast(getattr(library, name), ctypes.c_void_p)
                binding.add_symbol(f"pydnn_{name}", function.value)
        self._engine = _compiled(_places(blas))
        self._receiver = ctypes.c_void_p.in_dll(blas, "openblas_threads_callback_")
        self._receive = _named(blas, "set_threads_callback_function")
        self._receive.argtypes, self._receive.restype = [ctypes.c_void_p], None
        self._run = self._engine.get_function_address("run")
        self._reserve = self._function("reserve", ctypes.c_int)
        self._clear = self._function("clear", ctypes.c_int, ctypes.c_int)
        self._advance = self._function("advance", None, ctypes.c_int)
        self._work = self._function("work", None, ctypes.c_int64, ctypes.c_int)
        self._size, self._stopped = self._numbers("size"), self._numbers("stopped")
        self._turn = threading.RLock()  # of the threads of Python that reserve the team
        self._threads: list[threading.Thread] = []
        self._ended = False

    @property
    def at_work(self) -> bool:
        """Whether OpenBLAS hands its jobs to the team."""
        return bool(self._receiver.value == self._run)

    def begin(self) -> None:
        """Let OpenBLAS hand its jobs to the team, unless somebody else receives them."""
        helpers = (blas_threads.blas_threads() or 1) - 1
        if self._ended or not 0 < helpers < min(usable_cores(), _MOST) or self._receiver.value:
            return
        if self._stopped[0]:
            self.stop()  # again, since an interruption ended it
        if len(self._threads) < helpers:
            # In another thread, since an interruption reaches only the main one: a thread that
            # runs, but is not in the list, would do the jobs of the next one a second time.
            hiring = threading.Thread(target=self._hire, args=(helpers,))
            try:
                hiring.start()
            except RuntimeError:  # the system starts no more threads
                self._ended = True
                return
            hiring.join()
        with self.reserved():  # which ends a reservation that an interruption left
            if len(self._threads) >= helpers:
                self._receive(self._run)

    def rest(self) -> None:
        """Let OpenBLAS use its own threads again."""
        if self.at_work:
            self._receive(None)

    def stop(self) -> None:
        """Rest, and end the threads."""
        self.rest()
        with self.reserved():
            self._size[0], self._stopped[0] = 0, 1
            for index, thread in enumerate(self._threads):
                self._advance(index)
                thread.join()
            self._threads, self._stopped[0] = [], 0

    def end(self) -> None:
        """Stop for good, before Python frees what the threads execute."""
        self._ended = True
        self.stop()

    def forget(self) -> None:
        """Take note that the threads are gone, in a forked process."""
        self.rest()
        self._threads, self._size[0], self._stopped[0] = [], 0, 0
        self._turn = threading.RLock()  # that no thread of the parent holds
        self._clear(0)

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """A context in which the team has no work."""
        # An interruption may come after `_reserve`, before `try`. Then products use OpenBLAS's own
        # threads until the next reservation ends.
        with self._turn:
            while not self._reserve():
                time.sleep(1e-4)
            try:
                yield
            finally:
                self._clear(1)

    def _hire(self, helpers: int) -> None:
        gates, known = self._numbers("gates", 32 * _MOST), self._numbers("threads", _MOST)
        cores = sum(1 << core for core in os.sched_getaffinity(0) if core < _CORES)
        with self.reserved():
            self._numbers("cores", _CORES // 32)[:] = [
                cores >> 32 * i & 0xFFFFFFFF for i in range(_CORES // 32)
            ]
            self._numbers("avoided")[0] = 0xFFFFFFFF  # no core yet
            for index in range(len(self._threads), 0 if self._ended else helpers):
                numbers = index, gates[32 * index]
                thread = threading.Thread(
                    target=self._work, args=numbers, name="pydnn team", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # the system starts no more threads
                    self._ended = True
                    return
                self._threads.append(thread)
                known[index] = thread.native_id or 0
                self._size[0] = index + 1

    def _numbers(self, name: str, count: int = 1) -> Any:
        address = self._engine.get_global_value_address(name)
        return (ctypes.c_uint32 * count).from_address(address)

    def _function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        return ctypes.CFUNCTYPE(result, *arguments)(self._engine.get_function_address(name))


def _named(library: ctypes.CDLL, name: str) -> Any:
    for each in blas_threads.NAMES:
        with contextlib.suppress(AttributeError):
            return getattr(library, each.format(name))
    raise AttributeError(name)


def _places(blas: ctypes.CDLL) -> int:
    """Return how many threads OpenBLAS keeps memory for, each in a place of its own."""
    get_config = _named(blas, "get_config")
    get_config.restype = ctypes.c_char_p
    match = re.search(rb"MAX_THREADS=(\d+)", get_config())
    if match is None or int(match[1]) < 2 * _MOST:
        raise ValueError("there is no place for the team")
    return int(match[1])


def _compiled(places: int) -> Any:
    """Compile the functions.

    Args:
        places: The number of places. OpenBLAS's own threads have the first ones.
    """
    words = {
        "PLACE": places - 1,  # of the caller; those of the team come before it
        "SPARE": places - 1 - _MOST,  # of a caller without the team
        "PATIENCE": _PATIENCE,
        "PAUSE": _PAUSES.get(platform.machine(), ""),
        "CORES": _CORES,
        "MASK": _CORES // 8,
        "MOST": _MOST,
    }
    text = re.sub(r"\b[A-Z]{4,}\b", lambda word: str(words[word[0]]), _TEXT)
    module = binding.parse_assembly(text)
    module.verify()
    machine = binding.Target.from_default_triple().create_target_machine()
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


_lock = threading.RLock()


@functools.cache
def _team() -> _Team | None:
    try:
        team = _Team()
    except Exception:  # another system, or another BLAS: it goes on with its own threads
        return None
    blas_threads.undisturbed = team.reserved
    atexit.register(team.end)

    def before() -> None:
        _lock.acquire()
        team.stop()

    def after_in_child() -> None:
        team.forget()
        _lock.release()

    os.register_at_fork(before=before, after_in_parent=_lock.release, after_in_child=after_in_child)
    return team


def begin() -> None:
    """Let the team do the jobs of OpenBLAS until `rest`, where that is possible."""
    with _lock:
        team = _team()
        if team is not None and not team.at_work:
            team.begin()


def begin_for(array: AnyArray) -> None:
    """Begin if parameters or examples are so many that several threads compute their products."""
    if array.nbytes >= _LEAST:
        begin()


def rest() -> None:
    """Let OpenBLAS's own threads do its jobs again."""
    with _lock:
        if _team.cache_info().currsize and (team := _team()) is not None:
            team.rest()
