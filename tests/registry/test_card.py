"""The model card says what the jury measured, in words that fit any data, and nothing else."""

from typing import Any

import pytest

from salon.judging.record import Judgement
from salon.registry.card import model_card

LEDGER = {"train_flops": 2.1e13, "train_minutes": 4.4}


def figure(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": 500}


def metrics() -> dict[str, Any]:
    right = {"all": figure(0.98, 0.96, 0.99), "colour": figure(0.98, 0.96, 0.99)}
    return {
        "cost": {
            "latency_ms_p50": 38.73,
            "latency_ms_p95": 50.0,
            "images_per_second_b16": 77.7,
            "images_seen": 9,
            "parameters": 2_871_095,
            "training_parameters": 0,
            "peak_memory_gb": 1.5,
            "selection_flops": 2e12,
            "selection_minutes": 0.25,
            "picture_flops": 1.25e9,
            "device": "cpu",
            "cpu_cores": 2,
            **LEDGER,
        },
        "memorisation": {
            "copy_rate": figure(0.0, 0.0, 0.013),
            "nearer": figure(0.52, 0.48, 0.56),
            "drawing": figure(0.98, 0.96, 0.99),
            "power": 0.99,
            "detectable_rate": 0.0154,
        },
        "test": {"alignment": right, "likeness": figure(0.65, 0.61, 0.69)},
        "novel": {
            "colour_x_shape": {
                "alignment": {"all": figure(0.26, 0.22, 0.29), "colour": figure(0.9, 0.8, 0.95)}
            }
        },
    }


def card(measured: dict[str, Any]) -> str:
    return model_card(
        method="mine",
        family="diffusion",
        image_size=48,
        judgement=Judgement.from_json(measured),
        ledger=LEDGER,
        licences=["Somebody (CC0-1.0)"],
        data_sha256="d" * 64,
        model_sha256="a" * 64,
        commit="0123456789abcdef",
    )


def test_figures_come_from_the_metrics() -> None:
    text = card(metrics())
    assert "48×48" in text
    assert "| test: drawn anew, of what training showed | all | 98.0 % (96.0 to 99.0) |" in text
    assert (
        "colour with shape, a combination that training never showed | all | 26.0 % (22.0 to 29.0) |" in text
    )
    assert "0.65 (0.61 to 0.69)" in text
    assert "- copies of training pictures: 0.0 % (0.0 to 1.3); through its own codec or denoiser 99 %" in text
    assert "a share of 1.5 % would stand out" in text
    assert "training did not see: 52.0 % (48.0 to 56.0); 50 % without memory" in text
    assert "reproduce the source drawing that was asked for: 98.0 % (96.0 to 99.0)" in text
    assert "39 ms per picture" in text
    assert "2,871,095 parameters, codec included and text tower apart; 1.25e+09 FLOPs a picture" in text
    assert "at 0123456789ab." in text


def test_what_is_surely_weak_stands_among_the_limits() -> None:
    limits = card(metrics()).partition("## Limits")[2]
    assert "wrong in 74 % of its pictures of “novel: colour with shape" in limits
    assert "“test" not in limits


def test_captions_alone_have_neither_attributes_nor_novel_combinations() -> None:
    measured = metrics() | {"novel": {}}
    measured["test"] = {"alignment": {"caption": figure(0.8, 0.75, 0.85), "all": figure(0.8, 0.75, 0.85)}}
    text = card(measured)
    assert "picks the prompt among other captions" in text
    assert "| caption | 80.0 % (75.0 to 85.0) |" in text
    assert "| all |" not in text
    assert "novel" not in text
    assert "KID" not in text


@pytest.mark.parametrize("word", ["background", "style", "concept", "emoji"])
def test_no_word_of_the_default_world(word: str) -> None:
    assert word not in card(metrics())


def test_the_same_model_has_the_same_card() -> None:
    assert card(metrics()) == card(metrics())
