"""The recommendation and the evidence for each of its steps, in plain words."""

from collections.abc import Sequence

from salon.judging.comparison import Comparison
from salon.report.recommend import Constraints, Contender, Place, Recommendation, nearest_to_real
from salon.report.wording import describe_machine, enumerate_words, interval, percent


def describe_recommendation(found: Recommendation) -> list[str]:
    """Sentences: who does not qualify, what seconds were measured on, the ranking, ties, and whom to take."""
    ranking = found.ranking
    highest = next(place.contender.name for place in ranking if place.behind is None)
    tied_first = sorted(ranking, key=lambda place: not place.tied)
    tied = [place.contender for place in ranking if place.tied]
    basis = found.others.basis([place.contender.name for place in ranking])
    return [
        *(f"{name} does not qualify: {'; '.join(why)}." for name, why in found.rejected.items()),
        _where_measured([place.contender for place in ranking], found.constraints),
        *(_describe(place) for place in ranking),
        *(_behind(place, highest, place.behind, basis) for place in tied_first if place.behind),
        *_conclude(tied[0], tied, nearest_to_real(tied, found.others)),
    ]


def _where_measured(contenders: Sequence[Contender], constraints: Constraints) -> str:
    machines = sorted({describe_machine(contender.cost) for contender in contenders})
    sentence = f"Seconds were measured on {enumerate_words(machines)}"
    if not all(contender.stands_for(constraints) for contender in contenders):
        return f"{sentence}; on the machine asked for they are not known, and nothing was scaled."
    more = (constraints.cores or 0) > max(contender.cost.cpu_cores for contender in contenders)
    return f"{sentence}{'; with more cores they are taken as they are' if more else ''}."


def _describe(place: Place) -> str:
    contender, best = place.contender, place.probability_best
    copies, cost, test = contender.copies.copy_rate, contender.cost, contender.test.all_right
    return (
        f"{contender.name}: everything right in {percent(place.alignment.value)} of val "
        f"({interval(place.alignment)}), {percent(test.value)} of test ({interval(test)}); "
        f"likeness lost {percent(contender.likeness.value)} ({interval(contender.likeness)}); "
        f"{cost.latency_ms_p50:.0f} ms a picture, "
        f"{cost.images_per_second_b16:.0f} a second in batches of 16; "
        f"{cost.train_minutes:.1f} minutes of training in {cost.peak_memory_gb:.2f} GB; "
        f"copies {percent(copies.value)} ({interval(copies)}), found from "
        f"{percent(contender.copies.detectable_rate)} on"
        f"{'' if best is None else f'; best with probability {best:.2f}'}."
    )


def _behind(place: Place, highest: str, behind: Comparison, basis: str) -> str:
    name, difference = place.contender.name, behind.difference
    figures = (
        f"difference {100 * difference.value:.1f} points, 95\N{NO-BREAK SPACE}% interval "
        f"{100 * difference.low:.1f} to {100 * difference.high:.1f}"
    )
    if not place.tied:
        return f"{name} is behind {highest} on these prompts, {basis} ({figures})."
    if place.probability_best is None:
        return f"{name} and {highest} cannot be told apart {basis} ({figures})."
    remedy = "they are equally often right, so that no number of prompts is known to"
    if more := behind.more_prompts:
        remedy = f"about {more:,} more prompts would, if the difference is as large as it looks"
    return f"{name} and {highest} cannot be told apart by {difference.n} prompts ({figures}): {remedy}."


def _conclude(choice: Contender, tied: Sequence[Contender], nearest: Sequence[Contender]) -> list[str]:
    name = choice.name
    if len(tied) == 1:
        return [f"Take {name}: no other that qualifies is as often right on these prompts."]
    equal = f"Take {name}: {_names(tied)} follow captions equally well, as far as these prompts can tell"
    quickest = f"{name} is the fastest for one picture alone ({choice.latency_ms:.0f} ms)"
    if len(nearest) == len(tied):
        return [f"{equal}, and their pictures are equally like real ones; {quickest}."]
    likest = f"the pictures of {_names(nearest)} are the most like real ones"
    sentence = f"{equal}; {likest}" + (f", and of these {quickest}." if len(nearest) > 1 else ".")
    best = min(nearest, key=lambda contender: contender.likeness.value)
    worth: list[Contender] = []  # the fastest first, each next one more like real pictures than those before
    for contender in sorted(tied, key=lambda contender: contender.latency_ms):
        faster = contender.latency_ms < choice.latency_ms
        if faster and (not worth or contender.likeness.value < worth[-1].likeness.value):
            worth.append(contender)
    if not worth:
        return [sentence]
    listed = [
        f"{each.name} ({each.latency_ms:.0f} ms, {percent(each.likeness.value)} lost)" for each in worth
    ]
    return [
        sentence,
        f"Faster, but less like real pictures than {best.name} "
        f"({percent(best.likeness.value)} of likeness lost): {enumerate_words(listed)}.",
    ]


def _names(contenders: Sequence[Contender]) -> str:
    return enumerate_words([contender.name for contender in contenders])
