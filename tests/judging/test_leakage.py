"""No network judges what it helped to train."""

import pytest

from salon.errors import SalonError
from salon.judging.leakage import refuse_leaks
from salon.judging.metrics import judging_networks

JUDGES = judging_networks()


def make_ledger(*networks: str, **more: object) -> dict[str, object]:
    return {"shared": {network: {"train_flops": 1.0} for network in networks}, **more}


def test_methods_with_towers_and_codecs_of_their_own_are_judged() -> None:
    refuse_leaks(make_ledger("clip", "codec-vqvae", "codec-vqgan"), method="dalle")


@pytest.mark.parametrize("judge", sorted(set(JUDGES.values())))
def test_a_score_from_a_network_that_the_method_optimised_is_refused(judge: str) -> None:
    with pytest.raises(SalonError, match=f"gan was trained with .* {judge} ") as refused:
        refuse_leaks(make_ledger("clip", judge), method="gan")
    assert all(metric in str(refused.value) for metric, network in JUDGES.items() if network == judge)
    with pytest.raises(SalonError, match=judge):  # guided at sampling alone, and said so
        refuse_leaks(make_ledger("clip", optimized=[judge]), method="gan")


def test_similarity_to_the_towers_is_no_score() -> None:
    with pytest.raises(SalonError, match=r"clip \(clip_score\)"):
        refuse_leaks(make_ledger("clip"), method="clip", judges={**JUDGES, "clip_score": "clip"})


def test_a_ledger_that_does_not_say_is_refused() -> None:
    with pytest.raises(SalonError, match="does not say which networks"):
        refuse_leaks({"train_flops": 1.0}, method="gan")
