"""Tokenizer, towers and contrastive loss."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, CLIPTextModelWithProjection, ResNetForImageClassification

from salon.data.dataset import Dataset
from salon.errors import SalonError
from salon.params import ClipParams
from salon.towers.contrastive import HardNegatives, info_nce
from salon.towers.probes import probe_attributes
from salon.towers.states import TextStateCache
from salon.towers.tokenizer import train_tokenizer, unknown_words
from salon.towers.tower import ClipTower, build_towers
from salon.weights import load_tensors, save_tensors

CAPTIONS = [
    "an owl in noto emoji style on a blue background",
    "сова, стиль noto, на голубом фоне",
    "a pizza in flat twemoji style on a striped background",
]
PARAMS = ClipParams(
    vocab_size=400,
    max_tokens=32,
    text_width=32,
    text_layers=1,
    image_channels=[16, 32],
    image_blocks=1,
    projection_dim=16,
    hard_negatives=2,
    max_steps=1,
    batch_size=64,
    lr=1e-3,
)


@pytest.fixture(scope="module")
def tower() -> ClipTower:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(CAPTIONS, vocab_size=PARAMS.vocab_size, max_tokens=PARAMS.max_tokens)
    return ClipTower.after_training(
        build_towers(PARAMS, tokenizer),
        tokenizer,
        CAPTIONS,
        embeddings=torch.randn(len(CAPTIONS), PARAMS.projection_dim),
    )


@pytest.mark.parametrize("caption", [*CAPTIONS, "漢字 and ✨", "ёж"])
def test_tokens_keep_every_symbol(tower: ClipTower, caption: str) -> None:
    ids = tower.tokenizer(caption)["input_ids"]
    assert tower.tokenizer.decode(ids, skip_special_tokens=True).strip() == caption.lower()


def test_the_embedding_depends_on_the_last_word(tower: ClipTower) -> None:
    """Guards the trap of CLIP's end token numbered 2: then words after the rarest token are ignored."""
    texts = tower.encode_text(["an owl on a blue background", "an owl on a blue umbrella"]).pooled
    assert (texts[0] - texts[1]).abs().max() > 1e-3
    # changing each single word changes the embedding
    words = CAPTIONS[0].split()
    base = tower.encode_text([CAPTIONS[0]]).pooled
    for i in range(len(words)):
        changed = " ".join([*words[:i], "pizza", *words[i + 1 :]])
        assert (tower.encode_text([changed]).pooled - base).abs().max() > 1e-4, words[i]


def test_padding_does_not_change_a_caption(tower: ClipTower) -> None:
    alone = tower.encode_text([CAPTIONS[1]])
    beside = tower.encode_text(CAPTIONS)
    assert torch.allclose(alone.pooled[0], beside.pooled[1], atol=1e-5)
    real = alone.mask[0]
    assert torch.allclose(alone.tokens[0][real], beside.tokens[1][beside.mask[1]], atol=1e-5)


def test_embeddings_are_unit_vectors(tower: ClipTower) -> None:
    images = tower.encode_images(torch.rand(3, 3, 32, 32) * 2 - 1)
    for vectors in (images, tower.encode_text(CAPTIONS).pooled):
        assert vectors.shape == (3, PARAMS.projection_dim)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)


def test_unknown_words_and_truncation_are_reported(tower: ClipTower) -> None:
    assert tower.unknown_words("A purple OWL, on a purple moon") == ["purple", "moon"]
    assert unknown_words("", frozenset()) == []
    assert not tower.is_truncated(CAPTIONS[0])
    assert tower.is_truncated("owl " * 100)
    assert tower.encode_text(["owl " * 100]).tokens.shape[1] == PARAMS.max_tokens


def test_plain_transformers_loads_the_saved_towers(tower: ClipTower, tmp_path: Path) -> None:
    tower.save(tmp_path)
    text = CLIPTextModelWithProjection.from_pretrained(tmp_path / "text").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "text")
    image = ResNetForImageClassification.from_pretrained(tmp_path / "image").eval()
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        embeds = text(**tokenizer(CAPTIONS, padding=True, return_tensors="pt")).text_embeds
        logits = image(pixel_values=pixels).logits
    normalise = torch.nn.functional.normalize
    assert torch.allclose(normalise(embeds, dim=1), tower.encode_text(CAPTIONS).pooled, atol=1e-5)
    assert torch.allclose(normalise(logits, dim=1), tower.encode_images(pixels), atol=1e-5)

    loaded = ClipTower.load(tmp_path)
    assert loaded.known_words == tower.known_words
    assert float(loaded.towers.logit_scale) == pytest.approx(float(tower.towers.logit_scale))


def test_loading_an_empty_folder_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(SalonError, match="run the train_clip stage first"):
        ClipTower.load(tmp_path)
    with pytest.raises(SalonError, match="run the train_clip stage first"):
        TextStateCache.load(tmp_path)


def test_cached_states_come_back_by_caption(tower: ClipTower, tmp_path: Path) -> None:
    TextStateCache(CAPTIONS, tower.encode_text(CAPTIONS)).save(tmp_path)
    cache = TextStateCache.load(tmp_path)
    states = cache.states[cache.indices([CAPTIONS[2], CAPTIONS[0]])]
    assert torch.equal(states.pooled, tower.encode_text(CAPTIONS).pooled[[2, 0]])
    with pytest.raises(SalonError, match="'a snail' is not in the cached text states"):
        cache.indices(["a snail"])


def test_info_nce_by_hand() -> None:
    """Two pictures, two captions, one hard negative; logits 2, 0 / 0, 2; the negative at 1 and 0."""
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    rows = [
        -math.log(math.exp(2) / (math.exp(2) + 1 + math.exp(1))),
        -math.log(math.exp(2) / (1 + math.exp(2) + 1)),
    ]
    columns = [-math.log(math.exp(2) / (math.exp(2) + 1))] * 2
    expected = (sum(rows) / 2 + sum(columns) / 2) / 2
    loss = info_nce(images, texts, logit_scale=torch.tensor(2.0), same=nothing)
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_texts_that_fit_as_well_are_no_negatives() -> None:
    images = torch.nn.functional.normalize(torch.randn(2, 4), dim=1)
    texts = images.clone()
    texts[1] = texts[0]  # the same description twice
    images[1] = images[0]
    same = torch.ones(2, 2, dtype=torch.bool)
    loss = info_nce(images, texts, logit_scale=torch.tensor(50.0), same=same)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_chance_is_the_logarithm_of_the_batch() -> None:
    loss = info_nce(
        torch.ones(8, 4) / 2, torch.ones(8, 4) / 2, logit_scale=torch.tensor(10.0), same=torch.eye(8) > 0
    )
    assert loss.item() == pytest.approx(math.log(8), abs=1e-5)


def test_hard_negatives_differ_in_one_attribute(ingested_world: Path) -> None:
    train = Dataset(ingested_world / "data/interim")["train"]
    distinct = sorted(set(train.captions))
    caption_of_row = torch.tensor([distinct.index(caption) for caption in train.captions])
    negatives = HardNegatives(train.attributes, caption_of_row)
    rows = torch.arange(40)
    captions, descriptions = negatives.draw(rows, per_row=1, generator=torch.Generator().manual_seed(0))
    assert len(captions) == 40
    for row, caption, description in zip(rows.tolist(), captions, descriptions, strict=True):
        changed = [name for name, value in description if train.attributes[row][name] != value]
        assert len(changed) == 1
        source = train.captions.index(distinct[caption])
        assert train.attributes[source] == dict(description)


def test_rows_without_attributes_have_no_hard_negatives() -> None:
    negatives = HardNegatives([{}, {}], torch.tensor([0, 1]))
    assert negatives.draw(torch.tensor([0, 1]), per_row=2, generator=torch.Generator()) == ([], [])


def test_untrained_towers_are_at_chance_in_the_probe(tower: ClipTower, ingested_world: Path) -> None:
    val, train = (Dataset(ingested_world / "data/interim")[split] for split in ("val", "train"))
    probe = probe_attributes(tower, val, train)
    assert set(probe.accuracy) == {"concept", "style", "background"}
    assert probe.trials > 100
    assert max(probe.accuracy.values()) < 0.8


def test_text_states_of_the_release_before_are_read(tower, tmp_path) -> None:
    TextStateCache(CAPTIONS, tower.encode_text(CAPTIONS)).save(tmp_path)
    tensors = load_tensors(tmp_path / "states.safetensors")
    tensors["words"] = tensors.pop("concept")
    save_tensors(tmp_path / "states.safetensors", tensors)
    assert torch.equal(TextStateCache.load(tmp_path).states.concept, tower.encode_text(CAPTIONS).concept)
