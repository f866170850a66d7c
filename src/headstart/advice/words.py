"""The advice in sentences, each made from numbers, none saying more than they do."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan

from headstart import metrics
from headstart.advice.choice import Option
from headstart.advice.curve import BOUNDS, FEWER, LAW
from headstart.advice.measure import Measured
from headstart.advice.next import Next
from headstart.advice.order import LARGEST, LARGEST_OF_EQUALS, WEIGHED
from headstart.advice.race import Lap
from headstart.advice.sample import FEWEST, FOLDS
from headstart.advice.story import Findings
from headstart.config.sides import height_width
from headstart.config.sides import told as extent
from headstart.names import listed, plural
from headstart.progress import duration
from headstart.report.answer import Answer
from headstart.report.metric import Metric

NUM_SHOWN = 5
_WHY_BACKBONE = {
    LARGEST: "the largest backbone comes first",
    LARGEST_OF_EQUALS: "of backbones that features do not tell from the best the largest comes first",
    WEIGHED: "weak evidence for a backbone is taken back towards what sizes say",
}
LONG = 60.0
"""Seconds of solving that are worth a word."""
PROBE_WORDS = "an exact linear probe"
OF_MODALITY = {"vision": "pictures", "text": "texts", "audio": "sounds"}


def answer(
    found: Findings,
    metric: Metric,
    ids: Sequence[str],
    steps: Next | None,
    laps: Sequence[Lap] = (),
    not_begun: Mapping[str, str] | None = None,
) -> Answer:
    """The headline and its points."""
    exact = steps is None or steps.exact
    points = [
        ("Data", " ".join(data(found))),
        ("Labels", " ".join(labels(found, ids))),
        ("What is read", " ".join(reading(found))),
        ("Backbones", " ".join(backbones(found, metric))),
        ("More examples", " ".join(more_examples(found, metric))),
        ("Strategies", " ".join(strategies(found, metric, exact))),
        ("Cost", " ".join(costs(found, steps))),
        ("First epochs", " ".join(race(laps, not_begun or {}))),
        ("How far to trust it", " ".join(trust(found))),
        ("Not measured", " ".join(left_out(found))),
    ]
    return Answer(headline(found, metric, exact), [(name, text) for name, text in points if text])


def headline(found: Findings, metric: Metric, exact: bool = True) -> str:
    best = found.choice.best
    if best is None:
        return f"{_why_nothing(found, metric)} Compare a linear probe with fine-tuning, on many seeds."
    where = f"{metric.text(best.likely)} {metric.title} is foretold ({metric.range(best.low, best.high)})"
    if found.sample.num_taken < found.sample.num_strata:
        where += f" among {found.sample.num_taken:,} of the {found.sample.num_strata:,} classes, and less among all"
    if best.is_probe and not exact:
        return f"Begin with feature extraction from {best.backbone}: of {PROBE_WORDS} on its features {where}."
    if best.is_probe:
        return f"Begin with {PROBE_WORDS} on the features of {best.backbone}: {where}."
    return f"Begin with {best.strategy} of {best.backbone}: {where}."


def _why_nothing(found: Findings, metric: Metric) -> str:
    """Why no score is foretold."""
    sample, untold = found.sample, max(one.num_untold for one in found.measured)
    if untold:
        return (
            f"{metric.title} cannot be told in {untold} of {FOLDS} folds of the examples, as a target is the same for "
            "all of them there: nothing is foretold."
        )
    examples = f"{plural(len(sample), 'example')} for training and validation"
    if sample.num_units < len(sample):
        return (
            f"{examples} are {plural(sample.num_units, 'unit')} that are not divided (those of one group, and copies): "
            f"too few to measure features on, at least {FEWEST} are needed."
        )
    return f"{examples} are too few to measure features on: at least {FEWEST} are needed."


def data(found: Findings) -> Iterator[str]:
    facts, sample = found.facts, found.sample
    yield f"{_parts(facts.sizes)} examples, {plural(facts.num_outputs, *_outputs(facts.outputs))}."
    (most, large), (least, small) = facts.largest, facts.smallest
    if large > small:
        yield f"In train '{most}' has {large:,} examples, '{least}' has {small:,}{_times(large, small)}."
    if facts.num_rare:
        verb = "has" if facts.num_rare == 1 else "have"
        yield f"{plural(facts.num_rare, *_strata(facts.strata))} {verb} fewer than 10 examples in train."
    if facts.per_class is not None:
        yield (
            f"Train is cut to {facts.per_class:,} of each {_strata(facts.strata)[0]} (split.n_per_class), val and test "
            "are not: on test, where some are rarer, scores may be lower than foretold, above all average precision."
        )
    for name, value in facts.baseline.items():
        measure = name.partition("_")[2]
        yield f"One and the same answer scores {metrics.named(measure, value)} on train and val."
        break
    if facts.copies is not None and facts.copies["copies"]:
        yield f"{plural(facts.copies['copies'], 'example')} {_is(facts.copies['copies'])} an exact copy of another."
        if facts.copies["test_in_train_or_val"]:
            yield f"Of test, {facts.copies['test_in_train_or_val']:,} have a copy in train or val."
    if facts.copies is not None and facts.copies["two_labels"]:
        times = "once" if facts.copies["two_labels"] == 1 else f"{facts.copies['two_labels']:,} times"
        yield f"One and the same content has several labels {times}."
    if sample.num_taken < sample.num_strata:
        yield (
            f"Features were judged on {sample.num_taken:,} of the {sample.num_strata:,} classes, drawn by chance: "
            "among all of them scores are lower."
        )
    if not sample.is_whole:
        yield f"Features were judged on {len(sample):,} of the {sample.num_known:,} examples of train and val."


def labels(found: Findings, ids: Sequence[str]) -> Iterator[str]:
    number = len(found.doubted)
    if not any(one.neighbours for one in found.measured):
        return
    number_of = {1: found.measured[0].name, 2: "both backbones"}
    where = f"in the features of {number_of.get(len(found.measured), f'all {len(found.measured)} backbones')}"
    if not number:
        yield f"No label looks wrong to the example's nearest neighbours {where}."
        return
    shown = listed([repr(ids[place]) for place in found.doubted[:NUM_SHOWN]])
    more = f" and {number - NUM_SHOWN:,} more" if number > NUM_SHOWN else ""
    yield (
        f"{plural(number, 'example')} of {len(found.sample):,} {'has' if number == 1 else 'have'} a label that looks "
        f"wrong to the nearest neighbours {where}; or they are hard. Look at {shown}{more}."
    )


def reading(found: Findings) -> Iterator[str]:
    for one in found.measured:
        told, name = one.reading, one.name
        if told.get("num_truncated"):
            unit = f"{told['max_length']} tokens" if "max_length" in told else f"{told['max_seconds']:g} s"
            yield f"{name} reads {unit}: {told['truncation_rate']:.1%} of the examples are longer and cut."
        elif told.get("share_smaller", 0) > 0.5:
            yield (
                f"{name} reads pictures at {extent(told['size'])} px, and {told['share_smaller']:.0%} of "
                f"{told['num_looked_at']} looked at are smaller (median {told['shorter_side']['median']:.0f})."
            )
        elif told.get("shorter_side", {}).get("median", 0) > 4 * min(height_width(told.get("size", 10**9))):
            yield (
                f"{name} reads pictures at {extent(told['size'])} px; their shorter side is "
                f"{told['shorter_side']['median']:.0f} px (median): small things are lost. data.size raises it."
            )
        if told.get("unknown_rate", 0) and told["unknown_rate"] > 0.05:
            yield f"{told['unknown_rate']:.0%} of the tokens are none that {name} knows."


def backbones(found: Findings, metric: Metric) -> Iterator[str]:
    choice = found.choice
    if not choice.equals:
        return
    first = _of(found, choice.equals[0])
    assert first.probe is not None
    yield _features(first, metric)
    same = list(choice.equals[1:])
    if same:
        names = listed([first.name, *same])
        yield f"{names} cannot be told apart: the interval of each difference holds zero."
    for name, interval in choice.ahead.items():
        if name not in same:
            ends = metric.gap(interval.low), metric.gap(interval.high)
            by = f"{metric.gap(interval.mean, signed=False)}{metric.unit} ({ends[0]} to {ends[1]})"
            yield f"{first.name} is ahead of {name} by {by}."
    if not choice.ahead:
        yield "It is the only backbone that was measured, so this is advice on strategy."


def more_examples(found: Findings, metric: Metric) -> Iterator[str]:
    if not found.choice.equals:
        return
    one = _of(found, found.choice.equals[0])
    assert one.curve is not None and one.foretold is not None  # noqa: PT018
    scores = one.curve.scores.mean(0)
    sizes = one.curve.sizes
    if len(sizes) > 1:
        yield (
            f"The probe scores {metric.text(float(scores[0]))} on {sizes[0]:,} training examples and "
            f"{metric.text(float(scores[-1]))} on {sizes[-1]:,}."
        )
    told, size = one.foretold.interval, one.foretold.size
    if one.foretold.how == LAW:
        ends = f"{metric.text(told.mean)} ({metric.range(told.low, told.high)})"
        yield f"By a power law that foretold the last doubling, {size:,} give {ends}."
    elif one.foretold.how == BOUNDS and size > sizes[-1]:
        yield (
            f"No power law foretells it, so for {size:,} there are bounds alone, between no gain and as much for each "
            f"doubling as the last one brought: {metric.range(told.low, told.high)}."
        )
    elif one.foretold.how == FEWER:
        yield (
            f"With so few examples one size alone was measured, {sizes[-1]:,}: what {size:,} bring beyond it is not "
            "foretold."
        )
    if one.bends:
        yield "More examples made it worse somewhere along the curve: look at the data before adding to them."


def strategies(found: Findings, metric: Metric, exact: bool = True) -> Iterator[str]:
    yield from _by_record(found, metric, exact)
    if not exact:
        yield (
            "With these settings a head cannot be solved for: the comparison has feature extraction as they say, "
            f"which may score otherwise than {PROBE_WORDS} on the same features."
        )
    yield from _why_first(found, metric)
    unknown = found.choice.unrecorded
    if unknown:
        yield f"Of {listed(unknown)} no comparison is recorded, so nothing is foretold."


def _by_record(found: Findings, metric: Metric, exact: bool) -> Iterator[str]:
    probe, tuned = found.choice.probe, found.choice.best_tuned
    if probe is None or tuned is None or tuned.gain is None:
        return
    gain = tuned.gain
    ends = f"{metric.gap(gain.low)} to {metric.gap(gain.high)}{metric.unit}"
    if found.choice.features_are_enough:
        most = max(0.0, min(gain.high, 1 - probe.low))
        yield (
            f"By what is recorded, features are enough here: {tuned.strategy}, the best of those that tune, comes to "
            f"{metric.gap(gain.mean)}{metric.unit} against {PROBE_WORDS} (90% of such comparisons: {ends})."
        )
        yield f"By that it could add at most {metric.gap(most, signed=False)}{metric.unit}{_to_find_out(tuned)}."
    else:
        yield (
            f"By what is recorded, {tuned.strategy} gains {metric.gap(gain.mean)}{metric.unit} over {PROBE_WORDS} "
            f"(90% of such comparisons: {ends})."
        )
        if gain.low <= 0:
            what = "the probe" if exact else "feature extraction"
            yield f"Whether it gains anything here is not certain: {what} is in the comparison."
    others = [
        one for one in found.choice.options if one.backbone == tuned.backbone and not one.is_probe and one is not tuned
    ]
    near = [one.strategy for one in others if one.high >= tuned.low]
    if near:
        yield f"{listed([tuned.strategy, *near])} cannot be told apart beforehand: their intervals overlap."


def _why_first(found: Findings, metric: Metric) -> Iterator[str]:
    """Where another option is foretold more than the one that is advised."""
    best, other, order = found.choice.best, found.choice.best_foretold, found.rule.order
    if best is None or other is None or other is best:
        return
    reasons = []
    if best.strategy == order.first and other.strategy != best.strategy:
        reasons.append(f"{best.strategy} comes first wherever it is foretold to gain anything")
    if best.backbone != other.backbone:
        reasons.append(_WHY_BACKBONE.get(order.backbones, ""))
    yield (
        f"By foretold scores alone {other.strategy} of {other.backbone} would come first ({metric.text(other.likely)} "
        f"against {metric.text(best.likely)}); {' and '.join(one for one in reasons if one)}, as that lost less on "
        "recorded comparisons."
    )


def costs(found: Findings, steps: Next | None) -> Iterator[str]:
    for (backbone, strategy), price in found.prices.items():
        if price.why_not:
            yield f"{strategy} of {backbone} could not be tried: {price.why_not}."
        elif price.solving >= LONG:
            yield (
                f"An exact probe on {backbone} takes about {duration(price.solving)} to be solved for: "
                "head.solver=gradient trains it by steps."
            )
        elif price.solving != price.solving:
            yield f"How long an exact probe on {backbone} takes is not known: its head is too large to be tried."
        elif price.seconds_a_step is not None:
            memory = f", {price.peak_bytes / 1e9:.1f} GB" if price.peak_bytes else ""
            yield (
                f"{strategy} of {backbone}: {price.seconds_a_step:.2g} s a step{memory}, about "
                f"{duration(price.seconds)} a run."
            )
    if steps is not None and steps.seconds is not None:
        about = duration(steps.seconds)
        yield f"The comparison below is {plural(steps.num_runs, 'run')}, about {about} on this machine."


def race(laps: Sequence[Lap], not_begun: Mapping[str, str]) -> Iterator[str]:
    if laps:
        each = listed([f"{one.strategy} of {one.backbone} {metrics.shown(one.metric, one.value)}" for one in laps])
        yield f"After one epoch: {each}. They are kept, and the comparison goes on from them."
        yield "One epoch says little of the last."
    for why in dict.fromkeys(not_begun.values()):
        yield f"Not begun: {listed([name for name, reason in not_begun.items() if reason == why])}, {why}."


def trust(found: Findings) -> Iterator[str]:
    record = found.rule.record
    number = int(record["comparisons"])
    of = f"{plural(number, 'recorded comparison')} of {plural(int(record['data_sets']), 'data set')}"
    within = f"within a point of the best contender in {int(record['within_a_point'])}"
    yield (
        f"On {of}, each judged without its own data set (but for one bound of the rule), such advice was {within}, "
        f"and lost {record['regret']:.1f} points on the mean."
    )
    yield (
        f"In those that were run on several seeds about {record['floor']:.1f} points are luck, which who knew all "
        "would lose as well."
    )
    yield (
        f"Of {record['tried']} ways to put options in order it went, on each data set, by that which lost least on the "
        f"others, and goes now by {record['way']!r}."
    )
    apart = "" if record["told_apart"] else ", which cannot be told from it"
    yield f"The best rule of thumb, {record['rival']!r}, lost {record['rival_regret']:.1f}{apart}."
    modality, normed = found.facts.modality, record["normed"][found.facts.modality]
    unlike = [one.name for one in found.measured if one.batch_norm not in normed]
    if unlike:
        kind = "with batch norm" if normed == [False] else "without batch norm"
        yield (
            f"No backbone {kind}, as {listed(unlike)}, was recorded on {OF_MODALITY[modality]}: what strategies gain "
            "there is taken from others."
        )
    per_class, most = examples_of_each(found), float(record["most_per_class"])
    if per_class is not None and per_class > 1.5 * most:
        what = _strata(found.facts.strata)[0]
        yield (
            f"They had at most {most:.0f} training examples of a {what}, and here are {per_class:.0f}: what strategies "
            "gain is not recorded there."
        )


def examples_of_each(found: Findings) -> float | None:
    """Training examples of a class on the mean; `None` where nothing is foretold."""
    sizes = [one.foretold.size for one in found.measured if one.foretold is not None]
    return sizes[0] / max(1, found.sample.num_taken) if sizes else None


def left_out(found: Findings) -> Iterator[str]:
    """By reason, in the order in which they came up."""
    for why in dict.fromkeys(found.left_out.values()):
        what = [name for name, reason in found.left_out.items() if reason == why]
        yield f"{listed(what)}: {why.rstrip('.')}."


def _features(one: Measured, metric: Metric) -> str:
    assert one.probe is not None and one.neighbours is not None and one.curve is not None  # noqa: PT018
    return (
        f"{one.name}: {PROBE_WORDS} on {plural(one.curve.sizes[-1], 'training example')} scores "
        f"{metric.text(one.probe.mean)} ({metric.range(one.probe.low, one.probe.high)}), the vote of the nearest "
        f"neighbours {metric.text(one.neighbours.mean)}."
    )


def _to_find_out(option: Option) -> str:
    if option.price is None or isnan(option.price.seconds):
        return ""
    return f", at {duration(option.price.seconds)} a run to find out"


def _of(found: Findings, name: str) -> Measured:
    return next(one for one in found.measured if one.name == name)


def _parts(sizes: "dict[str, int] | object") -> str:
    assert isinstance(sizes, dict)
    return ", ".join(f"{count:,} {part}" for part, count in sizes.items())


def _times(large: int, small: int) -> str:
    return f", {large / small:.0f} times fewer" if small and large >= 3 * small else ""


def _outputs(outputs: str) -> tuple[str, str]:
    return {"classes": ("class", "classes")}.get(outputs, (outputs.removesuffix("s"), outputs))


def _strata(strata: str) -> tuple[str, str]:
    return {"classes": ("class", "classes"), "labels": ("label", "labels")}.get(strata, ("range", "ranges"))


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
