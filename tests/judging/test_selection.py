"""The choice of sampler settings: likeness decides, but not for the price of variety or alignment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.judging.selection import Selection, Trial, choose
from salon.judging.statistics import Estimate

ERROR = 0.02  # standard error of every difference


def trial(
    number: int,
    lost: float,
    *,
    diversity: float | None = 0.6,
    alignment: float = 1.0,
    flops: float = 1.0,
    settings: Mapping[str, float] | None = None,
) -> Trial:
    return Trial(
        number=number,
        settings={"guidance_scale": 1.0 + number} if settings is None else settings,
        likeness=Estimate(lost, round(lost - 0.1, 4), round(lost + 0.1, 4), 96, 60),
        alignment=Estimate(alignment, 0.9, 1.0, 96),
        diversity=None if diversity is None else Estimate(diversity, 0.0, 1.0, 48),
        picture_flops=round(flops * 1e9),
        draw_ms_p50=10 * flops,
        pictures=144,
        seconds=3.0,
    )


def difference(one: Trial, other: Trial) -> Estimate:
    lost = one.likeness.value - other.likeness.value
    return Estimate(lost, lost - 1.96 * ERROR, lost + 1.96 * ERROR, 96, 60)


def chosen(*trials: Trial) -> Selection:
    return choose(trials, difference)


def test_the_likest_is_taken_and_the_others_say_by_how_much_they_are_not() -> None:
    found = chosen(trial(0, 0.5), trial(1, 0.3), trial(2, 0.4))
    assert found.chosen == 1
    assert found.settings == {"guidance_scale": 2.0}
    assert [each.verdict for each in found.trials] == [
        "likeness lost is 0.200 ± 0.020 more",
        "taken",
        "likeness lost is 0.100 ± 0.020 more",
    ]
    assert "it lies nearest to real pictures (likeness lost 0.300)" in found.reason


def test_likeness_by_collapse_is_rejected() -> None:
    found = chosen(trial(0, 0.5, diversity=0.6), trial(1, 0.1, diversity=0.53), trial(2, 0.4, diversity=0.55))
    assert found.chosen == 2
    assert found.trials[1].verdict == "diversity 0.53 is below 0.54"


def test_more_varied_than_real_pictures_need_nobody_stay() -> None:
    assert chosen(trial(0, 0.5, diversity=1.5), trial(1, 0.1, diversity=0.91)).chosen == 1


def test_a_collapsed_start_is_left_behind_if_anything_varies() -> None:
    own = trial(0, 0.1, diversity=0.13)
    assert chosen(own, trial(1, 0.3, diversity=0.35)).chosen == 1
    found = chosen(own, trial(1, 0.05, diversity=0.12))
    assert found.chosen == 0
    assert found.reason == "the method's own settings stay: at none does diversity reach 0.30"
    assert found.trials[0].verdict == "taken; diversity 0.13 is below 0.30"


def test_likeness_by_lost_alignment_is_rejected() -> None:
    worse = trial(1, 0.1, alignment=0.989)
    found = chosen(trial(0, 0.5), worse, trial(2, 0.4, alignment=0.99))
    assert found.chosen == 2
    assert found.trials[1].verdict == "alignment is 1.1 points behind the best"
    # what has collapsed sets no standard of alignment
    assert chosen(trial(0, 0.5, alignment=0.9), worse, trial(2, 0.1, diversity=0.2)).chosen == 1


def test_of_what_cannot_be_told_apart_the_cheapest_is_taken() -> None:
    found = chosen(
        trial(0, 0.30, flops=2), trial(1, 0.315, flops=1), trial(2, 0.31, flops=1), trial(3, 0.33, flops=0.5)
    )
    assert found.chosen == 2  # as cheap as 1 and nearer; 3 is told from the best
    assert "cheapest that these prompts cannot tell from trial 0" in found.reason
    assert found.trials[0].verdict == "nearest to real pictures; a picture costs 2.0 times as much"
    assert found.trials[3].verdict == "likeness lost is 0.030 ± 0.020 more"


def test_without_pictures_of_one_caption_diversity_says_nothing_and_the_reason_says_so() -> None:
    found = chosen(trial(0, 0.5, diversity=None), trial(1, 0.3, diversity=None))
    assert found.chosen == 1
    assert "(diversity could not be measured)" in found.reason


def test_the_file_holds_all_trials_and_what_they_cost(tmp_path: Path) -> None:
    found = chosen(trial(0, 0.5), trial(1, 0.3, diversity=0.58), trial(2, 0.4, flops=3))
    path = tmp_path / "gan.json"
    found.save(path)
    assert Selection.load(path) == found
    cost = read_json(path)["cost"]
    assert cost == {"trials": 3, "pictures": 432, "flops": 144 * 5_000_000_000, "minutes": 0.15}


@pytest.mark.parametrize("spoil", [{"settings": {"guidance_scale": 9.0}}, {"chosen": 7}, {"trials": []}])
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, spoil: dict[str, Any]) -> None:
    path = tmp_path / "gan.json"
    chosen(trial(0, 0.5), trial(1, 0.3)).save(path)
    write_json(path, {**read_json(path), **spoil})
    with pytest.raises(SalonError, match=r"gan\.json .*: run `dvc repro --force select@gan`"):
        Selection.load(path)
