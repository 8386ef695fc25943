"""The recommendation and the evidence for each of its steps, in plain words."""

from collections.abc import Sequence

from salon.judging.statistics import Comparison
from salon.report.recommend import Constraints, Contender, Place, Recommendation, nearest_to_real
from salon.report.wording import decimal, describe_machine, enumerate_words, interval, percent, span


def describe_recommendation(found: Recommendation) -> list[str]:
    """Sentences: who does not qualify, what seconds were measured on, the ranking, ties, and whom to take."""
    tied = [place for place in found.ranking if place.tied]
    highest = next(place for place in found.ranking if place.behind is None)
    return [
        *(f"{name} does not qualify: {'; '.join(why)}." for name, why in found.rejected.items()),
        _where_measured([place.contender for place in found.ranking], found.constraints),
        *(_describe(place) for place in found.ranking),
        *(_tie(place, highest) for place in tied if place.behind is not None),
        *(_lag(place, highest) for place in found.ranking if not place.tied),
        *_conclude(found.ranking[0], tied, nearest_to_real(tied)),
    ]


def _where_measured(contenders: Sequence[Contender], constraints: Constraints) -> str:
    known = [contender.cost for contender in contenders if contender.cost.device]
    if not known:
        return "What the seconds were measured on was not written down."
    sentence = (
        f"Seconds were measured on {enumerate_words(sorted({describe_machine(cost) for cost in known}))}"
    )
    if all(contender.stands_for(constraints) for contender in contenders):
        measured = max(cost.cpu_cores or 0 for cost in known)
        more = constraints.cores is not None and constraints.cores > measured
        return f"{sentence}{'; with more cores they are taken as they are' if more else ''}."
    return f"{sentence}; on the machine asked for they are not known, and nothing was scaled."


def _describe(place: Place) -> str:
    contender = place.contender
    copies, cost = contender.copy_rate, contender.cost
    return (
        f"{contender.name}: everything right in {percent(place.alignment.value)} of val "
        f"({interval(place.alignment)}), {percent(contender.test.value)} of test "
        f"({interval(contender.test)}); KID {decimal(contender.kid.value)} ({span(contender.kid)}); "
        f"{cost.latency_ms_p50:.0f} ms a picture, "
        f"{cost.images_per_second_b16:.0f} a second in batches of 16; "
        f"{cost.train_minutes:.1f} minutes of training"
        + (f" in {cost.peak_memory_gb:.2f} GB; " if cost.peak_memory_gb is not None else "; ")
        + (f"copies {percent(copies.value)} ({interval(copies)})" if copies else "copies not measured")
        + f"; best with probability {place.probability_best:.2f}."
    )


def _tie(place: Place, highest: Place) -> str:
    assert place.behind is not None
    more = place.behind.more_prompts
    remedy = (
        f"about {more:,} more prompts would, if the difference is as large as it looks"
        if more
        else "they are equally often right, so that no number of prompts is known to"
    )
    return (
        f"{place.contender.name} and {highest.contender.name} cannot be told apart by "
        f"{place.behind.difference.n} prompts ({_points(place.behind)}): {remedy}."
    )


def _lag(place: Place, highest: Place) -> str:
    assert place.behind is not None
    return f"{place.contender.name} is behind {highest.contender.name} ({_points(place.behind)})."


def _points(comparison: Comparison) -> str:
    difference = comparison.difference
    return (
        f"difference {100 * difference.value:.1f} points, 95\N{NO-BREAK SPACE}% interval "
        f"{100 * difference.low:.1f} to {100 * difference.high:.1f}"
    )


def _conclude(choice: Place, tied: Sequence[Place], nearest: Sequence[Place]) -> list[str]:
    name = choice.contender.name
    if len(tied) == 1:
        return [f"Take {name}: no other that qualifies is as often right."]
    equal = f"Take {name}: {_names(tied)} follow captions equally well, as far as these prompts can tell"
    quickest = f"{name} is the fastest for one picture alone ({choice.latency_ms:.0f} ms)"
    if len(nearest) == len(tied):
        return [f"{equal}, and their pictures are equally like real ones; {quickest}."]
    likest = f"the pictures of {_names(nearest)} are the most like real ones"
    sentence = f"{equal}; {likest}" + (f", and of these {quickest}." if len(nearest) > 1 else ".")
    faster = _worth_their_speed([place for place in tied if place.latency_ms < choice.latency_ms])
    if not faster:
        return [sentence]
    best = min(nearest, key=lambda place: place.kid.value)
    listed = [
        f"{place.contender.name} ({place.latency_ms:.0f} ms, KID {decimal(place.kid.value)})"
        for place in faster
    ]
    return [
        sentence,
        f"Faster, but measurably less like real pictures than {best.contender.name} "
        f"(KID {decimal(best.kid.value)}): {enumerate_words(listed)}.",
    ]


def _worth_their_speed(places: Sequence[Place]) -> list[Place]:
    """The fastest first; each next one is more like real pictures than those before."""
    kept: list[Place] = []
    for place in sorted(places, key=lambda place: place.latency_ms):
        if not kept or place.kid.value < kept[-1].kid.value:
            kept.append(place)
    return kept


def _names(places: Sequence[Place]) -> str:
    return enumerate_words([place.contender.name for place in places])
