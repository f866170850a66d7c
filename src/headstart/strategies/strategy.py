"""What may train and at which relative rate; together with an unfreeze schedule it makes the plan.

A strategy is data: every one that the field knows is a few keys of this class (see `conf/strategy/`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from headstart.config.ranges import Count, Multiplier, Positive, ProperFraction
from headstart.errors import InputError
from headstart.strategies.adapters import Adapter
from headstart.strategies.plan import HEAD, KINDS, FrozenNorm, Kind, Phase, Plan, ThawedNorm
from headstart.strategies.regularizers import Regularizer
from headstart.strategies.unfreeze import Never, Unfreeze, Window, match

Decay = Annotated[float, Ge(0.01), Le(1)]
"""A number from 0.01 to 1: of dozens of groups, the lowest must still move."""
Average = Literal["ema", "wise_ft"]
"""What a run keeps in place of the weights of one step: their moving average, or a mixture with the starting ones."""
LayerRates = Literal["auto_rgn"]
"""What sets the rates of depth groups relative to each other while training goes on: relative gradient norms."""
Chance = Annotated[float, Gt(0), Lt(1)]
Radius = Annotated[float, Gt(0), Le(100)]
"""How far all weights together are moved, in their own units."""
USUAL_DECAY = 0.999
OWN_KINDS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "adapter")


class Strategy:
    """Which rows of the backbone may train, each at a multiple of the head's rate.

    `groups` are shell patterns over depth-group names; `last_k` counts blocks from the head (the tail comes with
    them), `first_k` from the input (the stem comes with them). `kinds` narrows every group to some of its parameters;
    with an adapter the default is the adapter's alone. A group with no such parameter stays frozen. The multiplier of
    a group `d` groups below the head is `backbone_rate × layer_decay ** d`.

    With `layer_rates` it is multiplied by what is measured in every epoch (see `training.relative_rates`).
    With `stochastic_norm` batch norms choose by chance what they normalise by (see `training.stochastic_norm`).
    With `sam`, a radius, steps are sharpness-aware (see `training.sharpness`).
    With `average` a run keeps averaged weights (see `training.averaging`): `ema` by `average_decay`, or `wise_ft`.
    """

    def __init__(
        self,
        lr: Positive,
        pretrained: bool = True,
        groups: list[str] | None = None,
        last_k: Count | None = None,
        first_k: Count | None = None,
        kinds: list[Kind] | None = None,
        backbone_rate: Multiplier = 1.0,
        layer_decay: Decay = 1.0,
        frozen_norm: FrozenNorm = "eval",
        thawed_norm: ThawedNorm = "train",
        granularity: Literal["blocks", "stages"] = "blocks",
        adapter: Adapter | None = None,
        regularizer: Regularizer | None = None,
        layer_rates: LayerRates | None = None,
        stochastic_norm: Chance | None = None,
        average: Average | None = None,
        average_decay: ProperFraction = USUAL_DECAY,
        sam: Radius | None = None,
    ) -> None:
        if average_decay != USUAL_DECAY and average != "ema":
            raise InputError(
                f"strategy.average_decay={average_decay:g} is of a moving average, but strategy.average is "
                f"{average or 'null'}. Add strategy.average=ema, or leave the decay out."
            )
        self.lr, self.pretrained = lr, pretrained
        self.patterns, self.last_k, self.first_k = groups, last_k, first_k
        own = kinds if kinds is not None else [] if adapter else OWN_KINDS
        self.kinds: tuple[Kind, ...] = (*own, "adapter") if adapter else tuple(own)
        self.backbone_rate, self.layer_decay = backbone_rate, layer_decay
        self.frozen_norm, self.thawed_norm, self.granularity = frozen_norm, thawed_norm, granularity
        self.adapter, self.regularizer = adapter, regularizer
        self.stochastic_norm = stochastic_norm
        self.layer_rates: LayerRates | None = layer_rates
        self.average, self.average_decay = average, average_decay
        self.sam = sam

    @property
    def keeps_backbone(self) -> bool:
        """Whether nothing of the backbone ever trains, whichever it is."""
        return self.patterns is not None and not self.patterns and self.adapter is None

    def trainable(self, kinds: Mapping[str, Collection[Kind]]) -> tuple[str, ...]:
        """The backbone groups that may train at all, from the input to the output.

        `kinds` are those of the parameters in each depth group (input to output, without the head).

        Raises:
            InputError: if a pattern names no group, the model has fewer blocks than asked for, or nothing in the groups
                that were asked for is of a kind that trains.
        """
        chosen = self._chosen(tuple(kinds))
        able = tuple(group for group in chosen if not set(self.kinds).isdisjoint(kinds[group]))
        if chosen and not able:
            found = sorted({kind for group in chosen for kind in kinds[group]}, key=KINDS.index)
            raise InputError(
                f"Something in the groups that train must be of strategy.kinds={list(self.kinds)}, but "
                f"{', '.join(chosen)} have only {', '.join(found)}. Choose other kinds or another strategy."
            )
        return able

    def plan(
        self, kinds: Mapping[str, Collection[Kind]], unfreeze: Unfreeze, max_epochs: int, rate: float = 1.0
    ) -> Plan:
        """The thaw plan for a backbone whose depth groups hold parameters of these kinds (see `trainable`).

        `rate` is the backbone's own: it scales every row of the backbone but adapters, which start from nothing.
        """
        trainable = self.trainable(kinds)
        self._check_use(trainable)
        if bool(trainable) == isinstance(unfreeze, Never):
            raise InputError(_mismatch(tuple(kinds), trainable, unfreeze))
        windows = unfreeze.windows(trainable, max_epochs)
        if unfreeze.warmup_epochs and unfreeze.warmup_epochs >= max_epochs:
            raise InputError(
                f"unfreeze.warmup_epochs must be below trainer.max_epochs={max_epochs}, or no group comes to its rate, "
                f"but is {unfreeze.warmup_epochs:g}."
            )
        if not any(window.thawed for window in windows) and trainable:
            raise InputError(_mismatch(tuple(kinds), trainable, unfreeze))
        if not self.pretrained and trainable != windows[0].thawed:
            raise InputError(
                f"Random weights must train from the start, but unfreeze={type(unfreeze).__name__} keeps groups frozen "
                f"for a while, of {', '.join(trainable)}. Use unfreeze=at_start, or a strategy that starts from "
                "pretrained weights."
            )
        phases = tuple(self._phase(window, tuple(kinds), rate) for window in windows)
        return Plan(
            (*kinds, HEAD),
            phases,
            max_epochs,
            self.frozen_norm,
            self.thawed_norm,
            unfreeze.warmup_epochs,
            unfreeze.restart,
            self.granularity,
        )

    def check_pull(self, plan: Plan) -> None:
        """Raise `InputError` where weights are to be pulled to where they began, and none of the backbone's moves."""
        penalty = self.regularizer
        if penalty is None or not penalty.pulls_weights:
            return
        if not any(phase.trains(group, "weight") for phase in plan.phases for group in plan.groups[:-1]):
            raise InputError(
                f"strategy.regularizer={type(penalty).__name__} pulls weights of the backbone to where they began, but "
                f"this strategy trains only {', '.join(self.kinds)} there. Leave strategy.regularizer out, or tune "
                "weights (strategy=l2_sp)."
            )

    def check_norms(self, plan: Plan, batch_norms: Collection[str]) -> None:
        """Raise `InputError` where batch norms are to be stochastic and none is in training mode; `batch_norms` are the
        depth groups that have some."""
        if self.stochastic_norm is None:
            return
        if not batch_norms:
            cause = "the backbone has none. Use one that has (backbone=resnet50, say), or strategy=fine_tune"
        elif self.thawed_norm == "eval":
            cause = "strategy.thawed_norm=eval keeps them to the moving ones. Use strategy.thawed_norm=train"
        elif not any(phase.trains(group, "norm") for phase in plan.phases for group in batch_norms):
            cause = (
                "this strategy trains none of them. Tune groups that have some, or leave strategy.stochastic_norm out"
            )
        else:
            return
        raise InputError(
            f"strategy.stochastic_norm={self.stochastic_norm:g} lets batch norms that train choose between the batch's "
            f"statistics and the moving ones, but {cause}."
        )

    @property
    def measured_rates(self) -> str | None:
        """What becomes of the rates that are planned, in words."""
        if self.layer_rates is None:
            return None
        return (
            "those shown are the highest there may be: in every epoch each group's is multiplied by its gradient's "
            "norm over its weights' norm, the largest such ratio being 1 (Auto-RGN); its history has what they were"
        )

    @property
    def steps(self) -> str | None:
        """What is done at every step beside the usual, in words."""
        if self.sam is None:
            return None
        return (
            f"by the gradient at weights that were moved by {self.sam:g} towards a higher loss (SAM): every step takes "
            "two passes"
        )

    @property
    def num_passes(self) -> int:
        """Forward and backward, of a step."""
        return 1 if self.sam is None else 2

    @property
    def averaging(self) -> str | None:
        """What a run keeps in place of one step's weights, in words."""
        words = {
            "ema": f"the moving average of the weights over steps, decay {self.average_decay:g} at most; epochs are "
            "selected by it",
            "wise_ft": "the best epoch's weights mixed with the starting ones, how much of each chosen on val",
        }
        return None if self.average is None else words[self.average]

    def _check_use(self, trainable: Sequence[str]) -> None:
        """Raise `InputError` for what could do nothing where the backbone stays as it came."""
        if not trainable:
            for key, value in (
                ("average", self.average),
                ("regularizer", self.regularizer),
                ("layer_rates", self.layer_rates),
                ("sam", self.sam),
            ):
                if value is not None:
                    name = type(value).__name__ if isinstance(value, Regularizer) else value
                    raise InputError(
                        f"strategy.{key}={name} needs something that is tuned in the backbone, but this strategy keeps "
                        f"it whole as it came. Leave strategy.{key} out, or tune (strategy=fine_tune, say)."
                    )
        if self.average == "wise_ft" and self.adapter is not None and self.adapter.refuses_mixture is not None:
            raise InputError(
                "strategy.average=wise_ft mixes tuned weights with the pretrained ones, which cannot be done by mixing "
                f"this adapter's: {self.adapter.refuses_mixture}. Use strategy.average=ema, or another adapter."
            )
        if self.average == "wise_ft" and not self.pretrained:
            raise InputError(no_start(f"strategy.pretrained={str(self.pretrained).lower()}"))

    def _phase(self, window: Window, groups: Sequence[str], own: float) -> Phase:
        rates: dict[str, dict[Kind, float]] = {}
        for distance, group in zip(range(len(groups), 0, -1), groups, strict=True):
            rate = self.backbone_rate * self.layer_decay**distance * window.scale.get(group, 1.0)
            trains = [kind for kind in self.kinds if group in window.thawed]
            scaled = {kind: rate if kind == "adapter" else rate * own for kind in trains}
            rates[group] = {kind: scaled.get(kind, 0.0) for kind in KINDS}
        rates[HEAD] = dict.fromkeys(KINDS, window.scale.get(HEAD, 1.0))
        return Phase(window.name, window.start, rates, window.until)

    def _chosen(self, groups: tuple[str, ...]) -> tuple[str, ...]:
        given = [name for name in ("last_k", "first_k") if getattr(self, name) is not None]
        given += ["groups"] if self.patterns is not None else []
        if len(given) > 1:
            raise InputError(
                "Only one of strategy.groups, strategy.last_k and strategy.first_k may be set, but "
                f"{' and '.join(given)} are. Set the others to null."
            )
        if self.patterns is not None:
            return match(self.patterns, groups, "strategy.groups")
        if self.last_k is not None:
            return self._counted(groups, self.last_k, "last_k")
        if self.first_k is not None:
            return self._counted(groups, self.first_k, "first_k")
        return groups

    def _counted(self, groups: tuple[str, ...], count: int, key: str) -> tuple[str, ...]:
        blocks = [group for group in groups if group not in ("stem", "tail")]
        if not blocks:
            raise InputError(
                f"strategy.{key} counts blocks, but the model has none. Its groups: {', '.join(groups)}. Name some of "
                "them in strategy.groups instead."
            )
        if count > len(blocks):
            raise InputError(
                f"strategy.{key} must be at most the number of blocks, {len(blocks)}, but is {count}. "
                f"Groups: {', '.join(groups)}."
            )
        if key == "first_k":
            return tuple(groups[: groups.index(blocks[count - 1]) + 1])
        return tuple(groups[groups.index(blocks[-count]) :])


def no_start(cause: str) -> str:
    """What to say where there are no weights to go back towards."""
    return (
        f"strategy.average=wise_ft mixes tuned weights with the pretrained ones that they began from, but with {cause} "
        "they begin from random ones. Use strategy.average=ema, or pretrained weights."
    )


def _mismatch(groups: Sequence[str], trainable: Sequence[str], unfreeze: Unfreeze) -> str:
    schedule = type(unfreeze).__name__
    if trainable:
        return (
            f"The strategy trains {', '.join(trainable)}, but unfreeze={schedule} thaws none of them. "
            "Use unfreeze=at_start or gradual, or strategy=feature_extraction."
        )
    return (
        f"The strategy keeps the whole backbone ({', '.join(groups)}) frozen, but unfreeze={schedule} would thaw it. "
        "Use unfreeze=never, or another strategy, such as gradual_unfreeze."
    )
