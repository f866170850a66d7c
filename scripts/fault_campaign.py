"""Puts a small comparison through what a bad day brings, and tells whether it ends as if nothing had happened.

    python scripts/fault_campaign.py                          at most 40 cases of each fault
    python scripts/fault_campaign.py --only kill,clock        of some
    python scripts/fault_campaign.py --only every             what a kill leaves at every write: half an hour
    python scripts/fault_campaign.py --only every --share 2/3     the second third of it

The comparison: two heads on the same features (trained together), fine-tuning, gradual unfreezing on plateaus, and
LoRA, of a tiny network on a few pictures; nothing is downloaded. It is done once undisturbed. Then, case by case in a
folder and with a cache of its own, it is done under a fault; after that the same command is given again without the
fault. A case holds if that command succeeds, and metrics, predictions, weights, histories and listings are the same
bytes as the undisturbed ones, no run is lost or listed twice, nothing is left behind, and nobody saw a traceback.

Faults:

    every     the work as it lies at every write of it: before a file is opened, renamed, linked or removed, or a folder
              made; at every other one what is about to get its name is cut in half. This is what kill -9 would leave:
              it is copied at each write of one run of the command, and each copy is gone on with. Each strategy's
              runs are a comparison of their own here, so that a case takes seconds
    kill      kill -9 itself, at some writes of the comparison of all
    twice     killed, started again, and killed again
    full      a disk that is full from one write on, and (as root) one of a few megabytes
    slow      a disk that takes its time for each write, for one process and for two at once
    clock     a clock that is off by five minutes or a year, of all of the work or of who goes on with a killed one's
    nolocks   a file system that cannot lock, for one process, two at once, and one that stays when the other is killed
    local     locks that each of two machines sees for itself alone, both at work, also when one of them is killed
    two       two processes at once, also when one of them is killed

Writes are seen by an audit hook of Python; what compiled code writes by itself (an adapter's tensors) is not seen.
"""

import argparse
import contextlib
import errno
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 300.0
"""Seconds that a process gets; one that takes longer hangs."""
RUNS = {
    "heads": ("strategy=feature_extraction optimizer.lr=1e-2", "strategy=feature_extraction optimizer.lr=1e-3"),
    "fine-tuning": ("strategy=fine_tune",),
    "plateaus": ("strategy=gradual_unfreeze unfreeze=on_plateau unfreeze.num_groups=4 unfreeze.restore_best=true",),
    "LoRA": ("strategy=lora",),
}
ALL = "all"
"""The comparison of all these runs."""
FAULTS = ("every", "kill", "twice", "full", "slow", "clock", "nolocks", "local", "two")
FLEETING = ("started", "finished", "cost", "environment", "git", "rerun", "notes", "crc32", "checksum")
"""Entries of a result that no two runs have in common."""
MEASURED = ("total_seconds", "train_seconds", "feature_seconds", "shared_by", "peak_memory_bytes")
"""Costs of a run that are what they were this time."""
SIGNS = ("claim", ".claim", ".sweep.claim", "last.ckpt", "plateau", "folded.ckpt", "damaged-")
"""Beginnings of the names of what is there only while a run is under way."""
YEAR = 365 * 86_400

Fault = Callable[[Path], None]
"""Brings a fault about in the process that calls it, whose work lies in a folder."""


# --- faults, brought about in the process that suffers them


def at_write(home: Path, act: Callable[[int, str, str], None]) -> None:
    """Call `act` with number, kind and place of each write below `home`, before it is done."""
    count = 0
    root = f"{home}/"

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"):
            return
        place = values[0]
        if not isinstance(place, (str, bytes, os.PathLike)):
            return
        if event == "open" and not values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = os.path.join(home, os.fsdecode(place))
        if path.startswith(root):
            count += 1
            act(count, event, path)

    sys.addaudithook(hook)


def halve(number: int, event: str, path: str | Path) -> None:
    """Cut what is about to get its name in half if the number of the write is even."""
    if event == "os.rename" and number % 2 == 0 and os.path.isfile(path):
        os.truncate(path, os.path.getsize(path) // 2)


def keep_states(home: Path) -> None:
    """Keep what a kill would leave at each write, and how many writes there are."""
    states = home.parent / "states"
    states.mkdir()

    def act(count: int, event: str, path: str) -> None:
        shutil.copytree(home, states / str(count), symlinks=True)
        halve(count, event, states / str(count) / Path(path).relative_to(home))
        (home.parent / "all.writes").write_text(str(count))

    at_write(home, act)


def kill(number: int) -> Fault:
    """kill -9 before write `number`."""

    def fault(home: Path) -> None:
        def act(count: int, event: str, path: str) -> None:
            if count == number:
                halve(count, event, path)
                os.kill(os.getpid(), signal.SIGKILL)

        at_write(home, act)

    return fault


def full(number: int) -> Fault:
    """No space is left from write `number` on."""

    def fault(home: Path) -> None:
        def act(count: int, event: str, path: str) -> None:
            if count >= number and event in ("open", "os.mkdir", "os.link"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

        at_write(home, act)

    return fault


def slow(home: Path) -> None:
    at_write(home, lambda *_: time.sleep(0.01))


def clock(shift: float) -> Fault:
    def fault(home: Path) -> None:
        real = time.time
        time.time = lambda: real() + shift

    return fault


def nolocks(number: int) -> Fault:
    def fault(home: Path) -> None:
        import fcntl

        def flock(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        fcntl.flock = flock

    return fault


def machine(name: str) -> Fault:
    """This process is on a machine of its own, whose locks no other one sees; it takes another for dead after 5 s."""

    def fault(home: Path) -> None:
        import fcntl

        from headstart.system import lock, process

        flock, close, own = fcntl.flock, os.close, {}

        def flock_own(descriptor: int, how: int) -> None:
            """Lock a file of this machine's own in place of the one that both see."""
            if descriptor not in own:
                place = home.parent / f"{name}.{os.fstat(descriptor).st_ino}.lock"
                own[descriptor] = os.open(place, os.O_RDWR | os.O_CREAT)
            flock(own[descriptor], how)

        def close_own(descriptor: int) -> None:
            if descriptor in own:
                close(own.pop(descriptor))
            close(descriptor)

        fcntl.flock, os.close = flock_own, close_own
        process.host = lock.host = lambda: name
        process._host_digest.cache_clear()
        lock.BEAT_SECONDS, lock.STALE_SECONDS = 0.5, 5.0

    return fault


def two_days_later(home: Path) -> None:
    """By when what processes of other machines left half-written is known to be abandoned."""
    from headstart.data import array_cache
    from headstart.system import lock, process

    real = process.clock_of
    process.clock_of = lock.clock_of = array_cache.clock_of = lambda folder: real(folder) + 2 * 86_400


def both(*faults: Fault) -> Fault:
    def fault(home: Path) -> None:
        for one in faults:
            one(home)

    return fault


def none(home: Path) -> None:
    """No fault."""


# --- processes


def begin(home: Path, words: Sequence[str], fault: Fault) -> int:
    """Start `headstart` with a fault in a process of its own, which has all libraries already; its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        os.chdir(home)
        os.environ["HEADSTART_CACHE"] = str(home / "cache")
        said = os.open(home.parent / f"{os.getpid()}.said", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(said, stream)
        sys.argv = ["headstart", *words]
        note_runs(home)
        fault(home)
        from headstart.cli.main import main

        status = main(list(words))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def note_runs(home: Path) -> None:
    """Note each run that this process begins; make no report, which takes longer than all runs."""
    from headstart.cli import commands
    from headstart.run import experiment

    real = experiment.begin_record

    def opening(job: Any, *rest: Any) -> Any:
        with (home.parent / "runs.begun").open("a") as file:
            file.write(f"{job.run_id}\n")
        return real(job, *rest)

    experiment.begin_record = opening
    commands.finish_comparison = lambda *_: None


def ended(process: int) -> int | None:
    """A process's exit status, negative for a signal; `None` if it had to be ended."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


# --- what a comparison came to


def outcomes(home: Path) -> dict[str, Any]:
    """All that must be the same in every case, by run, and the comparison's listing."""
    import torch

    found: dict[str, Any] = {"sweep.json": (home / "outputs" / "s" / "sweep.json").read_bytes()}
    for path in sorted((home / "outputs" / "s").glob("*/result.json")):
        done, folder = json.loads(path.read_text()), path.parent
        header, *rows = (folder / "history.csv").read_text().splitlines()
        column = header.split(",").index("seconds")
        weights = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        with np.load(folder / "predictions.npz") as arrays:
            predictions = {name: arrays[name].tobytes() for name in arrays.files}
        found[folder.name] = {
            **{key: value for key, value in done.items() if key not in FLEETING},
            "cost": {key: value for key, value in done["cost"].items() if key not in MEASURED},
            "history": [[cell for place, cell in enumerate(row.split(",")) if place != column] for row in rows],
            "weights": {name: tensor.numpy().tobytes() for name, tensor in weights.items()},
            "predictions": predictions,
            # Hydra's own notes lie with the first run of those that one process does, whichever that is
            "files": sorted(
                str(file.relative_to(folder))
                for file in folder.rglob("*")
                if file.is_file() and file.parent.name != ".hydra"
            ),
            **{name: (folder / name).read_bytes() for name in ("config.yaml", "plan.json", "plan.svg")},
        }
    return found


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    if found.keys() != expected.keys():
        return f"runs {sorted(found.keys() ^ expected.keys())} are lost or too many"
    for name, one in expected.items():
        if found[name] != one:
            parts = [key for key in one if found[name].get(key) != one[key]] if isinstance(one, dict) else []
            files = {*found[name]["files"]} ^ {*one["files"]} if "files" in parts else ""
            return f"{name} is not the same: {', '.join(parts)} {files}"
    return ""


def leftovers(home: Path) -> list[str]:
    names = [path for top in ("outputs", "cache") for path in (home / top).rglob("*")]
    return [
        str(path.relative_to(home))
        for path in names
        if path.name.startswith(SIGNS) or any(sign in path.name for sign in (".part", ".draft", ".unusable"))
    ]


# --- cases


@dataclass
class Case:
    """Processes that are begun together, one such group after the other, and what is to be seen of them."""

    name: str
    groups: list[list[Fault]]
    of: str = ALL
    """What is compared."""
    state: int | None = None
    """The write at which the work was left that is gone on with."""
    once: bool = False
    """Whether each run must be begun exactly once."""
    last: Fault = none
    """What the command is given under that must end well."""
    disk: int | None = None
    """Megabytes of the disk that all lies on."""


@dataclass
class Comparison:
    """A command, what it comes to undisturbed, and how often it writes."""

    words: list[str]
    expected: dict[str, Any]
    num_writes: int


@dataclass
class Campaign:
    folder: Path
    comparisons: dict[str, Comparison] = field(default_factory=dict)

    def prepare(self, name: str) -> None:
        """Do a comparison undisturbed."""
        lines = [line for part, lines in RUNS.items() if name in (part, ALL) for line in lines]
        runs = ",".join(f"'{line}'" for line in lines)
        words = ["train", "-m", *settings(self.folder), f"hydra.sweeper.runs=[{runs}]"]
        home = self.folder / name / "work"
        home.mkdir(parents=True)
        began = time.monotonic()
        if ended(begin(home, words, count_writes if name == ALL else keep_states)) != 0:
            raise SystemExit(f"Undisturbed, the comparison fails:\n{said(home)}")
        seconds, expected = time.monotonic() - began, outcomes(home)
        if len(expected) != 1 + len(lines) or leftovers(home):
            raise SystemExit(f"Undisturbed, the comparison leaves {leftovers(home) or expected.keys()}")
        num_writes = int((home.parent / "all.writes").read_text())
        self.comparisons[name] = Comparison(words, expected, num_writes)
        print(f"{name}, undisturbed: {len(lines)} runs, {num_writes} writes, {seconds:.1f} s", flush=True)

    def broke(self, case: Case) -> str:
        """What is wrong after a case; nothing if it held."""
        comparison = self.comparisons[case.of]
        home = self.home(case)
        place = home.parent
        try:
            with disk_of(home, case.disk):
                for group in case.groups:
                    processes = [begin(home, comparison.words, fault) for fault in group]
                    if None in [ended(process) for process in processes]:
                        return f"it hangs: {said(home)[-500:]}"
                if case.disk is not None:
                    shutil.copytree(home, place / "kept")
            if case.disk is not None:  # that disk is gone: go on with what lay on it
                shutil.copytree(place / "kept", home, dirs_exist_ok=True)
            status = ended(begin(home, comparison.words, case.last))
            if status != 0:
                return f"the command without the fault ends with status {status}: {said(home)[-500:]}"
            if "Traceback" in said(home):
                return f"a traceback: {said(home)[-1500:]}"
            begun = Counter(run for path in place.glob("runs.begun") for run in path.read_text().split())
            if case.once and {*begun.values()} != {1}:
                return f"runs are done twice: {begun}"
            left = leftovers(home)
            return difference(outcomes(home), comparison.expected) or (f"left behind: {left[:5]}" if left else "")
        finally:
            shutil.rmtree(home if case.state else place, ignore_errors=True)

    def home(self, case: Case) -> Path:
        """Where a case's work is to lie: in a new folder, or, where it is gone on with, in its old one."""
        if case.state is None:
            home = Path(tempfile.mkdtemp(dir=self.folder)) / "work"
            home.mkdir()
            return home
        home = self.folder / case.of / "work"
        shutil.rmtree(home, ignore_errors=True)
        for old in (*home.parent.glob("*.said"), *home.parent.glob("runs.begun")):
            old.unlink()
        return (home.parent / "states" / str(case.state)).rename(home)

    def cases(self, most: int, rng: random.Random) -> dict[str, list[Case]]:
        """At most so many cases of each fault; a kill at every write all the same."""
        num = self.comparisons[ALL].num_writes if ALL in self.comparisons else 1

        def places(count: int) -> list[int]:
            """Writes spread over all of them."""
            count = min(count, num)
            return [1 + int((place + rng.random()) * num / count) for place in range(count)]

        some = max(1, most // 5)
        locks = (errno.ENOLCK, errno.ENOTSUP)
        pair = [machine("first"), machine("second")]
        found = {
            "kill": [Case(f"write {k}", [[kill(k)]]) for k in places(most)],
            "twice": [Case(f"writes {k} and {j}", [[kill(k)], [kill(j)]]) for k, j in zip(
                places(some), [1 + rng.randrange(num) for _ in places(some)], strict=True)],
            "full": [Case(f"from write {k}", [[full(k)]]) for k in places(2 * some)],
            "slow": [Case("alone", [[slow]]), Case("two at once", [[slow, slow]], once=True)],
            "clock": [
                case
                for shift in (-300, 300, -YEAR, YEAR)
                for case in (
                    Case(f"{shift:+} s", [[clock(shift)]], once=True),
                    *(Case(f"{shift:+} s after a kill at {k}", [[kill(k)], [clock(shift)]]) for k in places(1)),
                    *(Case(f"killed at {k} by {shift:+} s", [[both(clock(shift), kill(k))]]) for k in places(1)),
                    Case(f"two, one by {shift:+} s", [[clock(shift), none]], once=True),
                )
            ],
            "nolocks": [
                case
                for number in locks
                for case in (
                    Case(errno.errorcode[number], [[nolocks(number)]], once=True),
                    Case(f"{errno.errorcode[number]}, two at once", [[nolocks(number)] * 2], once=True),
                    *(Case(f"{errno.errorcode[number]}, one killed at {k}",
                           [[both(nolocks(number), kill(k)), nolocks(number)]]) for k in places(max(1, some // 2))),
                )
            ],
            "local": [
                Case("two at once", [pair], once=True, last=two_days_later),
                *(Case(f"one killed at {k}", [[both(pair[0], kill(k)), pair[1]]], last=two_days_later)
                  for k in places(some)),
                *(Case(f"killed at {k}, then the other", [[both(pair[0], kill(k))], [pair[1]]], last=two_days_later)
                  for k in places(some)),
            ],
            "two": [
                *(Case("two at once", [[none, none]], once=True) for _ in range(max(1, some // 3))),
                *(Case(f"one killed at {k}", [[kill(k), none]]) for k in places(some)),
            ],
        }  # fmt: skip
        disks = [Case(f"of {size} MB", [[none]], disk=size) for size in (2, 4, 1, 3, 6)]
        found["full"] = [case for pair in zip_longest(disks, found["full"]) for case in pair if case is not None]
        every = [
            Case(f"{name}, write {k}", [], of=name, state=k)
            for name, comparison in self.comparisons.items()
            if name != ALL
            for k in range(1, comparison.num_writes + 1)
        ]
        return {"every": every, **{name: cases[:most] for name, cases in found.items()}}


def count_writes(home: Path) -> None:
    def act(count: int, event: str, path: str) -> None:
        (home.parent / "all.writes").write_text(str(count))

    at_write(home, act)


@contextlib.contextmanager
def disk_of(home: Path, megabytes: int | None) -> Iterator[None]:
    """A disk of so many megabytes mounted at `home`, where that is allowed."""
    if megabytes is None:
        yield
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(home)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", str(home)], check=True)


def said(home: Path) -> str:
    """All that was written to the screen."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(home.parent.glob("*.said")))


def write_inputs(folder: Path) -> None:
    """Pictures of three classes, and weights for all runs to start from."""
    import timm
    import torch
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, name in enumerate(("circle", "square", "stripes")):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(8):
            picture = rng.integers(0, 120, (24, 24, 3))
            picture[label * 6 : label * 6 + 8, :, label] += 130
            Image.fromarray(picture.astype(np.uint8)).save(folder / "pictures" / name / f"{number}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), folder / "weights.pt")


def settings(folder: Path) -> list[str]:
    return [
        "backbone=timm", "backbone.model=test_efficientnet", f"backbone.weights={folder}/weights.pt", "name=s",
        "data=image_folder", f"data.root={folder}/pictures", "data.size=32", "trainer.max_epochs=5",
        "trainer.batch_size=8", "trainer.threads=1", "logger=none",
    ]  # fmt: skip


def import_all() -> None:
    """Have every library in this process, and what they make at first use, so that those it forks begin at once."""
    from headstart.compat import declare_torchvision_operators

    declare_torchvision_operators()
    import peft  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import timm
    import torch
    from hydra.core.plugins import Plugins
    from PIL import Image

    import headstart

    for module in pkgutil.walk_packages(headstart.__path__, "headstart."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    Plugins.instance()
    Image.init()
    torch.set_num_threads(1)
    model = timm.create_model("test_efficientnet")
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(2, 3, 32, 32)).sum().backward()
    optimizer.step()


def in_turn(cases: dict[str, list[Case]]) -> Iterator[tuple[str, Case]]:
    """A case of each fault and the next of each, so that none is left out where time is short."""
    for turn in zip_longest(*cases.values()):
        yield from ((name, case) for name, case in zip(cases, turn, strict=True) if case is not None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults, with commas between them")
    parser.add_argument("--cases", type=int, default=40, help="most cases of a fault")
    parser.add_argument("--share", default="1/1", help="2/3: of the cases of each fault, the second third")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after so many")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder is removed at the end")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = folder.resolve()
        folder.mkdir(exist_ok=True)
        import_all()
        write_inputs(folder)
        campaign = Campaign(folder)
        wanted = chosen.only.split(",") if chosen.only else [name for name in FAULTS if name != "every"]
        for name in [*RUNS] * ("every" in wanted) + [ALL] * (wanted != ["every"]):
            campaign.prepare(name)
        part, parts = map(int, chosen.share.split("/"))
        cases = campaign.cases(chosen.cases, random.Random(0))
        cases = {name: cases[name][part - 1 :: parts] for name in wanted}
        table: dict[str, Counter[str]] = {name: Counter() for name in wanted}
        for name, case in in_turn(cases):
            if time.monotonic() - began < chosen.seconds:
                wrong = campaign.broke(case)
                table[name]["broke" if wrong else "held"] += 1
                if wrong:
                    print(f"{name}, {case.name}: {wrong}", flush=True)
    print(f"\n{'fault':10}{'tried':>6}{'held':>6}{'broke':>6}")
    for name, counts in table.items():
        print(f"{name:10}{counts.total():6}{counts['held']:6}{counts['broke']:6}")
    print(f"{time.monotonic() - began:.0f} s")
    return int(any(counts["broke"] for counts in table.values()))


if __name__ == "__main__":
    sys.exit(main())
