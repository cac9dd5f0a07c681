"""Several cards for one model: a process for each, which denoise every chunk together.

Rank 0, the leader, is the process that calls; each further card has a follower. The leader sends
its calls through one pipe a follower, and all run the same loop: where the leader reports progress,
followers wait until it goes on. So whatever a report raises stops all of them at the same step.

A follower that dies ends the leader's process at once, which would wait for it in a collective call
for ever. One whose device is full makes the leader raise OutOfMemory. Followers end with their
leader.
"""

from __future__ import annotations

import io
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import _abort_process_group

from farm import logs
from farm.errors import FarmError, GenerationFailed
from farm.logs import log
from farm.model.denoise import ChunkConditions, Denoiser, Report, Sampling
from farm.model.memory import translate_out_of_memory
from farm.model.sampler import Noise, Sampler
from farm.model.team import join_team
from farm.model.transformer import InfiniteTalkTransformer
from farm.model.variant import Variant

Load = Callable[[str], Denoiser]
"""Makes a denoiser on a device; it is sent to the followers."""

BOOT = "from farm.model.ranks import follow_by_number; follow_by_number()"

LOOPBACK = "127.0.0.1"

LOST_S = 2.0
"""A dying follower closes its connections a moment before it has ended."""

Result = TypeVar("Result")


class Process(Protocol):
    """What the leader does with a follower's process."""

    def kill(self) -> None: ...

    def wait(self) -> int: ...


Start = Callable[[Connection], Process]
"""Starts a follower with its end of the pipe."""


def start_follower(pipe: Connection) -> Process:
    """A follower in a new interpreter.

    `multiprocessing` starts no process in a child of a Celery worker, which it takes for a daemon.
    """
    number = pipe.fileno()
    command = [sys.executable, "-P", "-c", BOOT, str(number)]
    return subprocess.Popen(command, pass_fds=[number])  # noqa: S603  # our own code


class RankedDenoiser:
    """A denoiser on several devices, with the methods of one."""

    def __init__(
        self, load: Load, device: str, size: int, *, start: Start = start_follower
    ) -> None:
        """Loads everywhere at once; `device` is `cuda`, of `size` cards, or `cpu`."""
        devices = [f"cuda:{rank}" if device == "cuda" else device for rank in range(size)]
        self._start = partial(_Followers, start, load, devices)
        self._devices = devices
        self._followers = self._start()
        try:
            self.own = load(devices[0])
            self._join()
        except BaseException:
            self.close()
            raise

    @property
    def transformer(self) -> InfiniteTalkTransformer:
        """That of the leader."""
        return self.own.transformer

    @property
    def attention(self) -> str | None:
        """The kernel that was set."""
        return self.own.attention

    def fingerprint(self, variant: Variant) -> str:
        """As `Variants.fingerprint`."""
        return self.own.fingerprint(variant)

    def switch(self, variant: Variant) -> bool:
        """As `Variants.switch`."""
        self._revive()
        return self._everywhere("switch", self.own.switch, variant)

    def set_attention(self, name: str, memory: Path | None = None) -> str:
        """As `set_attention_backend`; all ranks take the kernel that the leader takes."""
        kernel = self.own.set_attention(name, memory)
        return self._everywhere("set_attention", self.own.set_attention, kernel)

    def close(self) -> None:
        """Ends the followers; the next call starts new ones."""
        self._followers.close()

    def denoise(
        self,
        sampler: Sampler,
        noise: Noise,
        motion: Tensor,
        conditions: ChunkConditions,
        sampling: Sampling,
        *,
        report: Report,
    ) -> Tensor:
        """As `Denoiser.denoise`; raises OutOfMemory if a follower's device is full, too."""
        self._revive()
        followers = self._followers
        inputs = (sampler, noise, motion, conditions, sampling)
        is_reporting = False

        def lead(stage: str, done: int, total: int) -> None:
            nonlocal is_reporting
            is_reporting = True
            report(stage, done, total)
            is_reporting = False
            followers.go_on()

        followers.begin_chunk(inputs)
        try:
            latents = self.own.denoise(*inputs, report=lead)
        except BaseException as error:
            if is_reporting:
                followers.stop()
            else:
                followers.interrupt(error)
            raise
        followers.collect()
        return latents

    def _everywhere(self, name: str, own: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a method of the leader's denoiser, called on all ranks."""
        self._followers.call(name, *arguments)
        try:
            return own(*arguments)
        finally:
            self._followers.collect()

    def _join(self) -> None:
        """Makes a team of all ranks once they have loaded."""
        self._followers.collect()
        self._followers.call("join")
        store = self._followers.store
        self.own.team = join_team(0, len(self._devices), store, self._devices[0])
        self._followers.collect()

    def _revive(self) -> None:
        """Starts new followers if a failure has ended the last ones."""
        if not self._followers.is_closed:
            return
        self._followers = self._start()
        self._join()
        if self.attention is not None:
            self._everywhere("set_attention", self.own.set_attention, self.attention)


class _Followers:
    """The processes of the further ranks, as the leader sees them.

    Each answers a call once: with None, or with the FarmError that it raised.
    """

    def __init__(self, start: Start, load: Load, devices: Sequence[str]) -> None:
        listener = socket.create_server((LOOPBACK, 0))
        port = listener.getsockname()[1]
        self.store = TCPStore(
            LOOPBACK,
            port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )
        self._closed = threading.Event()
        self._is_computing = False
        self._failure: FarmError | None = None
        self._lock = threading.RLock()
        self._answers: SimpleQueue[FarmError | None] = SimpleQueue()
        self._processes: dict[Connection, Process] = {}
        for rank in range(1, len(devices)):
            pipe, theirs = Pipe()
            self._processes[pipe] = start(theirs)
            theirs.close()
            pipe.send((rank, devices, port, load))
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a method on all followers, which answer when it is done."""
        buffer = io.BytesIO()
        torch.save((name, arguments), buffer)  # tensors of any device
        self._send(lambda pipe: pipe.send_bytes(buffer.getbuffer()))

    def collect(self) -> None:
        """Waits for all answers to a call; raises the first error among them."""
        answers = [self._answers.get() for _ in self._processes]
        self._is_computing = False
        for error in filter(None, answers):
            raise error

    def begin_chunk(self, inputs: Sequence[Any]) -> None:
        """Lets the followers denoise until their first report."""
        self._is_computing = True
        self.call("denoise", *inputs)

    def go_on(self) -> None:
        """Lets them go on from a report."""
        self._send(lambda pipe: pipe.send(True))

    def stop(self) -> None:
        """Ends the chunk at the report at which they wait."""
        self._send(lambda pipe: pipe.send(False))
        with suppress(FarmError):  # too late to count
            self.collect()

    def interrupt(self, error: BaseException) -> None:
        """Ends followers that are in the middle of a step, in which the leader raised an error.

        Raises the error of a follower if that came first.
        """
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            self._closed.wait(LOST_S)  # a lost follower ends this process meanwhile
        self.close()
        if self._failure is not None:
            raise self._failure from error

    def close(self) -> None:
        """Ends the followers, and a collective call in which the leader waits for them."""
        with self._lock:
            if self.is_closed:
                return
            self._closed.set()
            if dist.is_initialized() and dist.get_backend() == "nccl":
                _abort_process_group()
            for process in self._processes.values():
                process.kill()
            for process in self._processes.values():
                process.wait()
                self._answers.put(self._failure or GenerationFailed("the ranks were ended"))

    def _send(self, send: Callable[[Connection], None]) -> None:
        try:
            for pipe in self._processes:
                send(pipe)
        except OSError:
            if not self._closed.wait(LOST_S):  # a lost follower ends this process meanwhile
                raise

    def _watch(self) -> None:
        """Passes on the followers' answers until they are closed."""
        while True:
            ready = wait(list(self._processes))
            for pipe in filter(ready.__contains__, self._processes):
                try:
                    answer = pipe.recv()
                except (EOFError, OSError):
                    if not self.is_closed:
                        self._end(pipe)
                    return
                self._receive(answer)

    def _receive(self, answer: FarmError | None) -> None:
        self._answers.put(answer)
        if answer is not None and self._is_computing:
            self._failure = answer
            self.close()

    def _end(self, lost: Connection) -> None:
        """Ends this process, which would wait for a lost follower for ever."""
        rank = 1 + list(self._processes).index(lost)
        status = self._processes[lost].wait()
        log("rank_lost", level=logging.ERROR, rank=rank, status=status)
        os._exit(1)


def follow_by_number() -> None:
    """`follow`, with the pipe whose file descriptor is the argument of this process."""
    follow(Connection(int(sys.argv[1])))


def follow(leader: Connection) -> None:
    """The process of a follower: answers the leader's calls until the leader ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they mean the leader, which may drain
        signal.signal(number, signal.SIG_IGN)
    logs.configure()
    threading.Thread(target=_end_with, args=(leader,), name="leader", daemon=True).start()
    try:
        rank, devices, port, load = leader.recv()
        _Follower(rank, devices, port, leader).run(load)
    except EOFError:  # the leader has ended
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def _end_with(leader: Connection) -> None:
    """Ends this process with its leader, even if it waits for it in a collective call."""
    hung_up = select.poll()
    hung_up.register(leader, 0)  # tells the end of a connection only
    hung_up.poll()
    os._exit(1)


class _Stopped(Exception):
    """The leader goes no further in this chunk."""


class _Follower:
    """One further rank."""

    def __init__(self, rank: int, devices: Sequence[str], port: int, leader: Connection) -> None:
        self._rank = rank
        self._device = devices[rank]
        self._size = len(devices)
        self._port = port
        self._leader = leader
        self._denoiser: Denoiser

    def run(self, load: Load) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.set_device(self._device)
        self._answer(partial(self._load, load))
        while True:
            call = io.BytesIO(self._leader.recv_bytes())
            name, arguments = torch.load(call, map_location=self._device, weights_only=False)
            self._answer(partial(getattr(self, name), *arguments))

    def _answer(self, call: Callable[[], object]) -> None:
        error = None
        try:
            with translate_out_of_memory(self._device, f"the part of rank {self._rank}"):
                call()
        except FarmError as raised:
            error = raised
        except _Stopped:
            pass
        self._leader.send(error)

    def _load(self, load: Load) -> None:
        self._denoiser = load(self._device)

    def join(self) -> None:
        store = TCPStore(LOOPBACK, self._port, is_master=False)
        self._denoiser.team = join_team(self._rank, self._size, store, self._device)

    def switch(self, variant: Variant) -> None:
        self._denoiser.switch(variant)

    def set_attention(self, name: str) -> None:
        self._denoiser.set_attention(name)

    def denoise(self, *inputs: Any) -> None:
        self._denoiser.denoise(*inputs, report=self._wait_for_leader)

    def _wait_for_leader(self, stage: str, done: int, total: int) -> None:
        if not self._leader.recv():
            raise _Stopped
