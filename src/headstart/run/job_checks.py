"""What is wrong with a job as a whole, what of it has to be said, and what its numbers follow from."""

import logging
from collections.abc import Mapping

import numpy as np

from headstart.data.augmentation import Augmentation
from headstart.data.batches import Batches
from headstart.data.source import Source
from headstart.errors import InputError
from headstart.names import listed_or, plural
from headstart.run.job import Job
from headstart.splits.duplicates import Duplicates, remarks
from headstart.strategies.plan import HEAD
from headstart.strategies.strategy import no_start
from headstart.tasks.task import Targets, Task
from headstart.training.compiled import check_compiler
from headstart.training.device import device_of
from headstart.training.neighbours import Neighbours

log = logging.getLogger(__name__)


def note_idle(augmentation: Augmentation, data: Source) -> None:
    if getattr(data, "cache_side", None) is not None and not augmentation.cuts:
        log.warning("data.cache_side does nothing: this augmentation cuts nothing out of pictures.")
    if augmentation.is_idle:
        log.warning("The augmentation changes nothing at these settings: it does what augmentation=none does.")


def note_on_device(job: Job) -> None:
    if job.parts.augmentation.on_device and (job.is_probe or job.cfg.trainer.reuse_views):
        log.warning("augmentation.place=device does nothing: versions that are kept are made by processors.")


def say_of_targets(job: Job) -> None:
    parts, shifts = job.split.indices, job.shift_targets
    if job.is_trial:  # which knows nothing of test sets
        parts, shifts = {"train": parts["train"], "val": parts["val"]}, {}
    for remark in remarks_on(job.parts.task, job.targets, parts, shifts):
        log.warning("%s", remark)


def remarks_on(
    task: Task, targets: Targets, parts: Mapping[str, np.ndarray], shifts: Mapping[str, np.ndarray]
) -> list[str]:
    """What is to be said of the targets at the places `parts`, by part, and of those of the extra test sets."""
    values = {part: targets.values[places] for part, places in parts.items()}
    everything = Targets(np.concatenate(list(values.values())), targets.names)
    return task.remarks(everything, values | {f"the shift {name}": found for name, found in shifts.items()})


def note_random(job: Job) -> None:
    """Say it where parts of a backbone that was to be pretrained stay at random weights."""
    total = job.sketch.total_parameters
    frozen = total - job.num_trainable(len(job.plan.phases))
    if job.strategy.pretrained and job.identity["weights"]["weights"] is None and frozen:
        log.warning(
            "The backbone's weights are random (backbone.weights=none), and %s of its %s parameters never train: what "
            "they compute stays random.",
            *(f"{frozen:,}", f"{total:,}"),
        )


def note_all_vote(job: Job) -> None:
    head, num = job.parts.head, len(job.split.train)
    if isinstance(head, Neighbours) and head.k > num:
        log.warning("head.k=%d is more than the %s: all of them vote.", head.k, plural(num, "training example"))


def check_start(job: Job) -> None:
    if job.strategy.average == "wise_ft" and job.identity["weights"]["weights"] is None:
        raise InputError(no_start("backbone.weights=none"))


def check_compile(job: Job) -> None:
    if not job.cfg.trainer.compile:
        return
    if job.is_probe:
        log.warning("trainer.compile does nothing: only a head trains, on features that are computed once.")
    elif job.strategy.regularizer is not None and job.strategy.regularizer.compares_maps:
        raise InputError(
            "trainer.compile must be false where a penalty compares feature maps, which it reads inside the backbone: "
            "use trainer.compile=false, or another strategy."
        )
    else:
        kind = device_of(job.cfg.trainer.accelerator).type
        check_compiler(kind)
        if kind == "cuda" and job.cfg.trainer.deterministic:
            log.warning(
                "trainer.compile on a GPU: attention's gradients need not have the same bits in each run, whatever "
                "trainer.deterministic says."
            )


def check_sharing(job: Job) -> None:
    """Raise `InputError` for a run whose model is to be shared out among devices (FSDP2), and cannot be."""
    settings, strategy = job.cfg.trainer, job.strategy
    if settings.strategy != "fsdp2":
        return
    if settings.devices < 2:
        raise InputError(
            "trainer.strategy=fsdp2 shares a model out among devices, so trainer.devices must be at least 2, but is "
            f"{settings.devices}. Raise it, or use trainer.strategy=auto."
        )
    if job.is_probe:
        log.warning("trainer.strategy=fsdp2 does nothing: only a head trains, on features that are computed once.")
        return
    foreign = {
        f"trainer.precision={settings.precision}": settings.precision not in ("32-true", "bf16-mixed"),
        "trainer.compile=true": settings.compile,
        f"strategy.average={strategy.average}": strategy.average is not None,
        "strategy.sam": strategy.sam is not None,
        "strategy.regularizer": strategy.regularizer is not None,
        "strategy.adapter": strategy.adapter is not None,
        "strategy.layer_rates": strategy.layer_rates is not None,
        "strategy.stochastic_norm": strategy.stochastic_norm is not None,
        "unfreeze.restore_best=true": any(phase.until and phase.until.restore_best for phase in job.plan.phases),
    }
    found = [name for name, is_there in foreign.items() if is_there]
    if found:
        raise InputError(
            f"With trainer.strategy=fsdp2 no device holds a whole model, so that there must be no {listed_or(found)}. "
            "Leave that out, or use trainer.strategy=auto."
        )


def check_copies(job: Job) -> None:
    found = job.duplicates
    if found is None or job.splitter.duplicates != "error" or not (found.copies or any(found.in_shifts.values())):
        return
    raise InputError(
        "The data must hold no exact copies of examples, as split.duplicates=error says: remove them, or use "
        "split.duplicates=group, which keeps all copies of one in the same part.",
        *_remarks(job, found),
    )


def check_steps(job: Job) -> None:
    """Raise `InputError` if `trainer.max_steps` ends training before the plan's last phase begins."""
    settings, begins = job.cfg.trainer, job.plan.earliest[-1]
    if settings.max_steps is None or not begins:
        return
    num_batches = len(Batches(job.split.train, settings.batch_size, job.seed, world=settings.devices))
    num_batches = min(num_batches, settings.limit_batches or num_batches)
    steps_before = begins * -(-num_batches // settings.accumulate_grad_batches)
    if settings.max_steps <= steps_before:
        raise InputError(
            "trainer.max_steps must reach the last phase of the plan, which begins after "
            f"{plural(steps_before, 'step')} ({plural(begins, 'epoch')}) at the earliest, but is {settings.max_steps}. "
            "Raise it, or thaw earlier."
        )


def rules(job: Job) -> list[str]:
    """What this run's numbers follow from beside its settings; their ids tell runs of before that did it otherwise."""
    settings, takes_no_steps = job.cfg.trainer, job.parts.head.solver != "gradient"
    rules = {
        "the epoch is selected by the monitor": settings.monitor != "val/accuracy" and not takes_no_steps,
        "patience counts in the last phase": settings.patience is not None and len(job.plan.phases) > 1,
        "improvements beyond min_delta are counted in double precision": settings.patience is not None
        and settings.min_delta > 0
        and not job.is_probe,
        "a head on features trains at the rates of its plan": job.is_probe
        and not takes_no_steps
        and (
            (job.plan.restart and len(job.plan.phases) > 1)
            or any(rate != 1 for phase in job.plan.phases for rate in phase.rates[HEAD].values())
        ),
        "losses are in double precision where training is": settings.precision == "64-true",
        "pictures keep 16 bits a value": bool(job.source.own_reading),
        "a head on features reads the batches of other strategies": job.is_probe
        and not takes_no_steps
        and (_may_differ_in_length(job) or settings.devices > 1),
    }
    return [rule for rule, holds in rules.items() if holds]


def _may_differ_in_length(job: Job) -> bool:
    return job.source.modality != "vision" and job.reading.arguments.get("padding") != "fixed"


def say_copies(job: Job) -> None:
    """Said once for a data set, of the split that comes first; what holds for each is in its record."""
    found = job.duplicates
    for remark in () if found is None else _remarks(job, found):
        log.warning("%s", remark)


def _remarks(job: Job, found: Duplicates) -> list[str]:
    source, splitter = job.source, job.splitter
    is_given = source.parts is not None and bool({"val", "test"} & {*source.parts.tolist()})
    how = "the data themselves" if is_given else splitter.described(job.seed)
    remedy = "Remove them, or put all copies of one into the same part."
    if splitter.duplicates == "keep" and not is_given:
        remedy = "split.duplicates=group keeps all copies of one in the same part."
    return remarks(found, source.name, source.ids, source.cells, job.split, how, remedy)
