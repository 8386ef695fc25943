"""Five tiny untrained methods behind the real server, in this process: what a test of the page needs."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import uvicorn

from salon.codecs import read_codec_config
from salon.files import write_json
from salon.inference.bundle import write_bundle
from salon.methods.base import DataShape, FrozenNets, read_config
from salon.params import ClipParams
from salon.params.serve import ServeParams
from salon.server import gallery
from salon.server.app import build_app
from salon.server.batching import BatchQueue
from salon.server.limits import Limits
from salon.server.metrics import ServerMetrics
from salon.server.models import ServedModels
from salon.server.votes import BallotBox
from salon.towers.tokenizer import train_tokenizer
from salon.towers.tower import ClipTower, build_towers

METHODS: Mapping[str, Mapping[str, object]] = {
    "gan": {"generator_channels": [8, 8, 16], "discriminator_channels": [8, 8, 16]},
    "vqvae": {"width": 32, "layers": 2, "num_inference_steps": 2},
    "clip": {"channels": [16, 16], "num_inference_steps": 2},
    "diffusion": {"channels": [16, 16], "num_inference_steps": 2},
    "dalle": {"width": 32, "layers": 1},
}
CODEC = {"channels": [8, 16]}
CLIP = ClipParams(
    vocab_size=300, max_tokens=16, text_width=32, text_layers=1, image_channels=[8], image_blocks=1,
    projection_dim=16, hard_negatives=2, max_steps=1, batch_size=8, lr=1e-3,
)  # fmt: skip
CAPTIONS = [
    f"{start} {thing} {where}"
    for thing in ("an owl", "a rocket", "a pizza")
    for start, where in (("", "on a blue background"), ("", "on a striped background"))
] + [f"{thing} на {colour} фоне" for thing in ("сова", "ракета") for colour in ("голубом", "полосатом")]
EXAMPLES = ["an owl on a blue background", "ракета на полосатом фоне", "a pizza on a striped background"]
READY_SECONDS = 60


@dataclass
class FakeRegistry:
    """Bundles in folders; what a test changes in `versions`, a promotion would."""

    bundles: Mapping[str, Path]
    versions: dict[str, str] = field(default_factory=lambda: dict.fromkeys(METHODS, "1"))
    methods: list[str] = field(default_factory=lambda: list(METHODS))

    def now(self) -> dict[str, str]:
        return dict(self.versions)

    @contextmanager
    def files(self, method: str, number: str) -> Iterator[Path]:
        yield self.bundles[method]


def write_bundles(folder: Path) -> dict[str, Path]:
    """One bundle per family."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(CAPTIONS, vocab_size=CLIP.vocab_size, max_tokens=CLIP.max_tokens)
    tower = ClipTower.after_training(
        build_towers(CLIP, tokenizer), tokenizer, CAPTIONS, embeddings=torch.randn(len(CAPTIONS), 16)
    )
    tower.save(folder / "clip")
    concept_width = tower.encode_text(CAPTIONS).concept.shape[1]
    shape = DataShape(image_size=32, text_width=32, pooled_width=16, concept_width=concept_width)
    bundles = {}
    for name, small in METHODS.items():
        method_class, config = read_config(name, {"family": name, **small})
        codec = folder / "codecs" / config.codec
        if config.codec == "pixels":
            write_json(codec / "config.json", {"family": "pixels"})
        else:
            codec_class, codec_config = read_codec_config(config.codec, CODEC)
            codec_class(codec_config).save_pretrained(codec)
        method = method_class(config, shape, FrozenNets.load(codec=codec, clip=folder / "clip"))
        with torch.no_grad():
            for parameter in method.parameters():  # zero-initialised layers draw the same for every prompt
                parameter.add_(0.05 * torch.randn_like(parameter))
        method.save_pretrained(folder / "methods" / name)
        bundles[name] = folder / "bundles" / name
        write_bundle(
            bundles[name],
            method=folder / "methods" / name,
            clip=folder / "clip",
            codec=codec,
            card="",
            description={
                "method": name,
                "family": name,
                "model_sha256": f"{len(bundles)}" * 64,
                "data_sha256": "d" * 64,
                "examples": EXAMPLES,
            },
        )
    return bundles


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    registry: FakeRegistry
    models: ServedModels


@contextmanager
def serve(
    bundles: Mapping[str, Path],
    votes: BallotBox,
    *,
    token: str | None = None,
    settings: ServeParams = ServeParams(),  # noqa: B008
) -> Iterator[Running]:
    """The server of `salon serve` on a free port of this machine."""
    metrics = ServerMetrics()
    queue = BatchQueue(settings, metrics)
    registry = FakeRegistry(bundles)
    failures: list[Exception] = []
    models = ServedModels(registry, metrics, poll_seconds=0.2, on_failure=failures.append)
    app = build_app(queue, models, metrics)
    app.include_router(gallery.build_router(votes, served=models.versions))
    limited = Limits(app, settings, token=token, public={"/health", *gallery.PUBLIC_PATHS})
    server = uvicorn.Server(uvicorn.Config(limited, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not (server.started and models.is_ready):
            assert not failures, failures
            assert thread.is_alive()
            assert time.monotonic() < deadline, f"not ready: {models.problems}"
            time.sleep(0.05)
        assert set(models.serving) == set(METHODS), models.problems
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(f"http://127.0.0.1:{port}", registry, models)
    finally:
        server.should_exit = True
        thread.join(30)
        models.close()
        queue.close()
