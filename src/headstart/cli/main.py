"""The command line. It only parses and calls; `--help` imports neither torch nor Hydra."""

import atexit
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence

from headstart.cli import help

COMMANDS = ("train", "plan", "advise", "report", "status", "rerun", "predict", "export", "store")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 only if everything asked for succeeded."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    atexit.register(
        gc.freeze
    )  # on its way out, Python looks through all that torch and others made for most of a second
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what cannot be written in any encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not words or words[0] in ("-h", "--help", "help"):
        print(help.PROGRAM, end="")
        return 0
    if words[0] in help.COMMANDS and not {"-h", "--help"}.isdisjoint(words):
        print(help.COMMANDS[words[0]], end="")
        return 0
    if words[0] == "--version":
        from headstart import __version__

        print(f"headstart {__version__}")
        return 0
    if words[0] in ("-sc", "--shell-completion"):
        return _guarded(lambda: _complete(words))
    if words[0] not in COMMANDS:
        from headstart.errors import unknown

        return _refuse(str(unknown("command", words[0], COMMANDS)))
    return _guarded(lambda: _dispatch(words[0], words[1:]))


def _dispatch(command: str, words: list[str]) -> int:
    if command in ("train", "plan"):
        from headstart.cli import hydra_app

        return hydra_app.train(words) if command == "train" else hydra_app.plan(words)
    if command == "advise":
        from headstart.cli.advise import advise

        return advise(words)
    from headstart.cli import commands

    return getattr(commands, command)(words)


def _guarded(call: Callable[[], int]) -> int:
    """Turn what can go wrong into one message and an exit status: 2 for bad input, 1 for a failed run."""
    from headstart import notes
    from headstart.errors import InputError, LaunchError, disk_is_full

    notes.show()

    try:
        return call()
    except InputError as error:
        return _refuse(*error.messages)
    except LaunchError as error:
        sys.stderr.write(f"headstart: {error}\n")
        return 1
    except KeyboardInterrupt as stop:
        words = str(stop) or "Stopped. The same command goes on from here; finished runs are not repeated."
        sys.stderr.write(f"\n{words}\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        sys.stderr.write("headstart: There is not enough memory. Finished runs are whole; lower trainer.batch_size.\n")
        return 1
    except Exception as error:
        if not disk_is_full(error):
            if isinstance(error, OSError) and error.filename is not None:
                return _refuse(_unusable(error))
            raise
        where = getattr(error, "filename", None)
        sys.stderr.write(
            f"headstart: The disk is full{f', writing {where}' if where else ''}. Finished runs are whole. "
            "Free some space; the same command goes on from here.\n"
        )
        return 1


def _unusable(error: OSError) -> str:
    """What is said of a file or folder that is not there, too long a name, closed to us, or something else."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else str(error.filename)
    shown = name if len(name) <= 120 else f"{name[:100]}…"
    return f"{shown} cannot be used: {error.strerror}. Check its name, what it is, and who may read and write it."


def _complete(words: list[str]) -> int:
    """Hydra's completion, with this program's commands before it."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    if any(word.startswith("query=") for word in words) and (len(typed) < 2 or (len(typed) == 2 and line[-1] != " ")):
        print(" ".join(f"{command} " for command in COMMANDS))
        return 0
    if len(typed) > 1 and typed[1] in COMMANDS:
        if typed[1] not in ("train", "plan", "advise"):
            return 0
        os.environ["COMP_LINE"] = line.replace(f" {typed[1]}", "", 1)
    from headstart.cli import hydra_app

    return hydra_app.hydra_main(words)


def _refuse(*messages: str) -> int:
    from headstart.names import plain_lines

    messages = tuple(map(plain_lines, messages))
    if len(messages) == 1:
        sys.stderr.write(f"headstart: {messages[0]}\n")
    else:
        sys.stderr.write(f"headstart: {len(messages)} problems\n" + "".join(f"  - {m}\n" for m in messages))
    return 2


if __name__ == "__main__":
    sys.exit(main())
