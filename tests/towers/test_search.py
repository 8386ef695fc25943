"""Search by text, with small towers on a small world."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from salon.cli import app
from salon.commands import search
from salon.data.dataset import Dataset
from salon.errors import SalonError
from salon.params import ClipParams
from salon.paths import Paths
from salon.towers.search import embed_pictures, kept_embeddings, nearest
from salon.towers.tokenizer import train_tokenizer
from salon.towers.tower import ClipTower, build_towers

PARAMS = ClipParams(
    vocab_size=400, max_tokens=16, text_width=32, text_layers=1,
    image_channels=[16], image_blocks=1, projection_dim=16,
    hard_negatives=2, max_steps=1, batch_size=64, lr=1e-3,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(ingested_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """An ingested workspace with untrained towers."""
    paths = Paths(tmp_path_factory.mktemp("searched"))
    shutil.copytree(ingested_world, paths.root, dirs_exist_ok=True)
    captions = Dataset(paths.interim).captions("train")
    torch.manual_seed(0)
    tokenizer = train_tokenizer(captions, vocab_size=PARAMS.vocab_size, max_tokens=PARAMS.max_tokens)
    ClipTower.after_training(
        build_towers(PARAMS, tokenizer),
        tokenizer,
        captions,
        embeddings=torch.randn(len(captions), PARAMS.projection_dim),
    ).save(paths.clip)
    return paths


def test_the_nearest_come_first() -> None:
    embeddings = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    hits = nearest(embeddings, torch.tensor([1.0, 0.0]), top=3)
    assert [hit.row for hit in hits] == [1, 2, 0]
    assert [hit.similarity for hit in hits] == pytest.approx([1, 0.6, 0])
    assert len(nearest(embeddings, torch.tensor([1.0, 0.0]), top=99)) == 4


def test_a_cache_belongs_to_the_bytes_that_made_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"one")

    def kept(split: str, size: int) -> int:
        return len(kept_embeddings(tmp_path, split, inputs=[data], embed=lambda: torch.eye(size)))

    assert kept("train", 3) == 3
    assert torch.equal(
        kept_embeddings(tmp_path, "train", inputs=[data], embed=lambda: torch.zeros(9)), torch.eye(3)
    )
    assert kept("test", 4) == 4
    data.write_bytes(b"two")
    assert kept("train", 5) == 5


def test_prints_what_the_towers_find_and_draws_it(
    world: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query, out = "owl blue", tmp_path / "grids" / "owls.png"
    search.run(world, query, split="test", top=3, out=out)
    lines = capsys.readouterr().out.splitlines()

    tower, test = ClipTower.load(world.clip), Dataset(world.interim)["test"]
    similarity = embed_pictures(tower, test.images) @ tower.encode_text([query]).pooled[0]
    best = similarity.argsort(descending=True)[:3].tolist()
    assert lines[:3] == [f"{test.ids[i]}  {similarity[i]:.3f}  {test.captions[i]}" for i in best]
    assert Image.open(out).size == (3 * 128 + 2 * 2, 128)


def test_the_second_search_reads_the_embeddings_of_the_first(
    world: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search.run(world, "pizza", split="val")
    first = capsys.readouterr().out
    monkeypatch.setattr(search, "embed_pictures", None)  # calling it would fail
    search.run(world, "pizza", split="val")
    assert capsys.readouterr().out == first


def test_unknown_words_and_a_cut_query_are_told(world: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    search.run(world, "zebra pizza " * 12, split="val", top=1)
    captured = capsys.readouterr()
    assert "never seen in training: zebra" in captured.err
    assert "only the first 16 tokens are read" in captured.err
    assert len(captured.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query": "  "}, "the query is empty"),
        ({"query": "owl", "split": "all"}, "unknown split 'all': one of train, val, test, novel"),
        ({"query": "owl", "top": 0}, "--top 0 is out of range"),
        ({"query": "owl", "out": Path("owls.jpeg")}, "the grid is a PNG"),
    ],
)
def test_what_cannot_be_searched_is_refused(world: Paths, arguments: dict, message: str) -> None:
    with pytest.raises(SalonError, match=message):
        search.run(world, **arguments)


def test_without_data_or_towers_it_says_what_to_run(ingested_world: Path, tmp_path: Path) -> None:
    with pytest.raises(SalonError, match="run the ingest stage first"):
        search.run(Paths(tmp_path), "owl")
    with pytest.raises(SalonError, match="run the train_clip stage first"):
        search.run(Paths(ingested_world), "owl")


def test_the_command_passes_everything_on(world: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.root)
    shown = CliRunner().invoke(app, ["search", "owl", "--split", "val", "--top", "2", "--out", "g.png"])
    assert shown.exit_code == 0, shown.output
    assert Image.open(world.root / "g.png").size == (2 * 128 + 2, 128)
