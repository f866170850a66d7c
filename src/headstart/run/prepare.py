"""From a config to a job that is known to work: everything that can be wrong with it is said here, all at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from headstart import notes
from headstart.backbones.backbone import BackboneFactory
from headstart.config import identity, schema
from headstart.config.binding import resolved
from headstart.config.overrides import as_written, literal
from headstart.config.text_settings import keep_texts
from headstart.data.source import Source
from headstart.errors import InputError, collect
from headstart.run.checks import (
    check_attention,
    check_features,
    check_modalities,
    check_overrides,
    check_plateaus,
    check_sharpness,
    check_solver,
    check_tracker,
    check_views,
)
from headstart.run.chosen import Parts, parts_of
from headstart.run.cotuning import check_source
from headstart.run.false_names import check_strategy_name
from headstart.run.findings import Findings, key_of
from headstart.run.job import Draft, Job
from headstart.run.job_checks import (
    check_compile,
    check_copies,
    check_sharing,
    check_start,
    check_steps,
    note_all_vote,
    note_idle,
    note_on_device,
    note_random,
    rules,
    say_copies,
    say_of_targets,
)
from headstart.run.machine import check_machine, check_memory, note_closed, note_few_steps
from headstart.run.pools import check_columns, columns_identity, pool_of
from headstart.run.sketch import Sketch, sketch_of
from headstart.splits.splitter import Split
from headstart.strategies.plan import Plan
from headstart.system.cache import cache_dir
from headstart.system.memory import uncollected
from headstart.training.device import check_precision
from headstart.training.memory import note_many

MOST_PLACES = 2**26
"""In all splits that are kept: as many seeds as a comparison may have of little data, 64 of a million examples."""


def prepare(cfg: DictConfig, here: bool = True, findings: Findings | None = None, try_optimizer: bool = True) -> Job:
    """Bind and check a composed config; nothing is written and nothing trained.

    `here`: whether it will run on this machine, so that it must have what the run needs. `findings`: what was found of
    other runs, where several are prepared. `try_optimizer`: as for `binding.bind`.

    Raises:
        InputError: with every problem that was found.
    """
    with notes.listening() as heard, uncollected():
        job = _prepared(cfg, here, Findings() if findings is None else findings, try_optimizer)
    return replace(job, notes=tuple(heard.messages))


def _prepared(cfg: DictConfig, here: bool, findings: Findings, try_optimizer: bool) -> Job:
    plain = resolved(cfg)
    parts, factory, nodes = _bound(plain, try_optimizer)
    cfg.trainer.monitor = plain["trainer"]["monitor"]  # looked at often: an interpolation is parsed each time
    if here:
        places = key_of(str(cfg.features.root), str(cache_dir()))
        findings.get("closed", places, partial(note_closed, cfg))
    settings, strategy = cfg.trainer, parts.strategy
    found: dict[str, Any] = {}
    collect(
        [
            *([partial(check_machine, cfg)] if here else []),
            partial(check_precision, settings.precision, settings.accelerator, here),
            partial(check_modalities, parts),
            partial(check_tracker, parts.logger),
            partial(parts.task.check_monitor, settings.monitor, "trainer.monitor"),
            partial(check_views, parts.augmentation, settings.reuse_views),
            lambda: found.update(source=_checked_source(parts.data, nodes["data"], nodes["task"], findings)),
            lambda: found.update(weights=_checked_weights(factory, nodes["backbone"], strategy.pretrained, findings)),
            lambda: found.update(sketch=sketch_of(factory, nodes["backbone"], strategy, findings)),
        ]
    )
    source, sketch = found["source"], found["sketch"]
    collect(
        [
            lambda: found.update(split=_split(source, plain, parts, findings)),
            partial(check_overrides, source, factory.reading()),
            lambda: found.update(plan=_plan(sketch, parts, cfg)),
        ]
    )
    job_plan: Plan = found["plan"]
    collect(
        [
            partial(check_strategy_name, cfg, strategy, job_plan, sketch.kinds),
            partial(check_plateaus, parts.task, job_plan),
            partial(check_solver, parts.head.solver, parts.task, job_plan, sketch.num_weighed),
            partial(check_attention, strategy, parts.task),
            partial(check_sharpness, strategy, settings.accumulate_grad_batches),
        ]
    )
    note_idle(parts.augmentation, source)
    what = {
        "settings": identity.settings(plain),
        "data": source.fingerprint,
        "shifts": {name: shifted.fingerprint for name, shifted in source.shifts.items()},
        "weights": found["weights"],
        **({"columns": columns_identity(source)} if source.columns else {}),
    }
    job = Job(cfg, parts, factory, sketch, job_plan, source, found["split"], what, findings)
    _check_whole(job, here)
    found_rules = rules(job)
    return replace(job, identity={**what, "rules": found_rules}) if found_rules else job


def _check_whole(job: Job, here: bool) -> None:
    """What can be said once all parts of a job are there; `here`: as for `prepare`."""
    check_start(job)
    check_source(job)
    check_features(job.parts.head.solver, job.cfg, job.plan, job.is_probe, job.parts.augmentation.mixes)
    note_all_vote(job)
    note_on_device(job)
    check_copies(job)
    check_steps(job)
    check_sharing(job)
    if here:
        check_compile(job)
        check_memory(job)
        note_many(job.cfg.trainer.num_workers)
    note_few_steps(job)
    note_random(job)
    say_of_targets(job)
    copies = key_of(job.identity["data"], job.identity["shifts"], job.splitter.duplicates)
    job.findings.get("copies", copies, lambda: say_copies(job))


def job_config(cfg: DictConfig, hydra: Any = None) -> DictConfig:
    """The part of a composed config that is ours, with the choices and overrides that led to it noted down."""
    hydra = cfg.get("hydra") if hydra is None else hydra
    ours = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]) if "hydra" in cfg else cfg
    note_choices(ours, {} if hydra is None else hydra.runtime.choices)
    return ours if hydra is None else with_overrides(ours, as_written(hydra.overrides.task))


def note_choices(cfg: DictConfig, choices: Mapping[str, Any]) -> None:
    """Note down what was chosen of each group, and leave out what a search may vary, which is no setting of a run."""
    for group in schema.GROUPS:
        if OmegaConf.is_dict(cfg.get(group)) and schema.SPACE in cfg[group]:
            with open_dict(cfg[group]):
                del cfg[group][schema.SPACE]
    chosen = {name.partition("@")[0]: choice for name, choice in choices.items()}
    groups = (*schema.GROUPS, "trainer", "experiment")
    if chosen and not cfg.choices:
        with open_dict(cfg):
            cfg.choices = {name: chosen[name] for name in groups if chosen.get(name) is not None}


def with_overrides(cfg: DictConfig, words: Sequence[str]) -> DictConfig:
    """A config of ours with the overrides that led to it noted down, and texts as they were typed."""
    if not cfg.overrides:
        cfg.overrides = literal(list(words))
    keep_texts(cfg)
    return cfg


def draft(cfg: DictConfig) -> Draft:
    """What a config comes to as far as it can be said without looking at data or weights."""
    parts, factory, nodes = _bound(resolved(cfg))
    sketch = sketch_of(factory, nodes["backbone"], parts.strategy, Findings())
    plan = _plan(sketch, parts, cfg)
    check_strategy_name(cfg, parts.strategy, plan, sketch.kinds)
    return Draft(cfg, parts, factory, sketch, plan)


def _bound(plain: Mapping[str, Any], try_optimizer: bool = True) -> tuple[Parts, BackboneFactory, dict[str, Any]]:
    """Parts, the backbone's factory at the data's size, and the nodes that they were made from."""
    parts = parts_of(plain, try_optimizer)
    shaped = [parts.pictures, parts.seconds, parts.strategy.keeps_backbone]
    nodes = {"data": plain["data"], "task": plain["task"], "backbone": [plain["backbone"], *shaped]}
    return parts, parts.sized_backbone, nodes


def _plan(sketch: Sketch, parts: Parts, cfg: DictConfig) -> Plan:
    rate = parts.backbone.rate
    plan: Plan = parts.strategy.plan(sketch.kinds, parts.unfreeze, cfg.trainer.max_epochs, rate)
    parts.strategy.check_norms(plan, sketch.batch_norms)
    parts.strategy.check_pull(plan)
    if parts.strategy.regularizer is not None:
        share = -(-int(cfg.trainer.batch_size) // int(cfg.trainer.devices))
        parts.strategy.regularizer.check(share, sketch.num_features)
    for (group, kind), setting in sketch.unset.items():
        if not any(phase.trains(group, kind) for phase in plan.phases):
            raise InputError(
                f"{setting} brings parameters of its own (kind {kind}, in the group {group}) that must train, but this "
                "strategy never trains them. Use a strategy that does, such as strategy=fine_tune or strategy=partial "
                f"strategy.last_k=null strategy.groups=[{group}], or leave {setting} out."
            )
    return plan


def _checked_source(source: Source, node: Mapping[str, Any], task: Any, findings: Findings) -> Source:
    def check() -> Source:
        source.check()
        check_columns(source)
        return source

    return findings.get("source", key_of(node, task, dict(source.asked), source.parts_column), check, kept=16)


def _checked_weights(factory: BackboneFactory, node: Any, pretrained: bool, findings: Findings) -> dict[str, Any]:
    def check() -> dict[str, Any]:
        factory.check(pretrained)
        return factory.identity(pretrained)

    return findings.get("weights", key_of(node, pretrained), check)


def _split(source: Source, plain: Mapping[str, Any], parts: Parts, findings: Findings) -> Split:
    seed = int(plain["seed"])

    def divide() -> Split:
        return parts.split.split(pool_of(source, parts.split, parts.task), seed, source.columns)

    known = key_of(source.fingerprint, columns_identity(source), plain["split"], plain["task"], seed)
    return findings.get("split", known, divide, kept=max(64, MOST_PLACES // len(source.labels)))
