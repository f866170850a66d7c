"""Pieces of work on one thread each, side by side in processes that begin as copies of this one.

Python runs one thread at a time, which small products wait for; processes do not. They share what is in memory already.
"""

import multiprocessing
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from headstart import notes

Say = Callable[..., None]
Piece = Callable[[Say], Any]


def side_by_side(pieces: Sequence[Piece], report: Say) -> Iterator[Any]:
    """What each piece gives, in any order; `report` is called here with what pieces tell meanwhile, and their notes are
    said here.

    Raises:
        RuntimeError: if a process ends before its pieces are done.
        Exception: what a piece raises.
    """
    number = min(torch.get_num_threads(), len(pieces)) if _can_be_copied() else 1
    if number < 2:
        yield from (piece(report) for piece in pieces)
        return
    copies = multiprocessing.get_context("fork")
    processes, ends = [], []
    try:
        for share in range(number):
            mine, theirs = copies.Pipe(duplex=False)
            ends.append(mine)
            process = copies.Process(target=_do, args=(pieces[share::number], theirs, ends), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
        yield from _heard(ends, report)
    finally:
        for process in processes:
            process.kill()
            process.join()
        for end in ends:
            end.close()


def _can_be_copied() -> bool:
    """A process that uses a GPU cannot be copied, nor one on other systems than Linux; and copies make no copies."""
    return sys.platform == "linux" and not torch.cuda.is_initialized() and not multiprocessing.current_process().daemon


def _heard(ends: Sequence[Connection], report: Say) -> Iterator[Any]:
    talking = list(ends)
    while talking:
        for end in wait(talking):
            assert isinstance(end, Connection)
            try:
                kind, value = pickle.loads(end.recv_bytes())
            except EOFError:
                raise RuntimeError("A process that trained heads ended before they were done.") from None
            if kind == "told":
                report(*value)
            elif kind == "done":
                yield value
            elif kind == "noted":
                notes.say_again(value)
            elif kind == "raised":
                raise value
            else:
                talking.remove(end)


def _do(pieces: Sequence[Piece], end: Connection, ears: Sequence[Connection]) -> None:
    """In a process of its own. One that nobody hears any more ends: therefore it keeps none of the `ears` open."""
    for ear in ears:
        ear.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that it works for ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)

    def say(kind: str, value: Any = None) -> None:
        end.send_bytes(pickle.dumps((kind, value)))

    with notes.heard_alone() as heard:
        try:
            for piece in pieces:
                say("done", piece(lambda *told: say("told", told)))
        except BrokenPipeError:
            return
        except BaseException as error:
            say("noted", heard.messages)
            say("raised", error)
            return
    say("noted", heard.messages)
    say("over")
