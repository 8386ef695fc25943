"""Choose the sampler settings of one method by a random search on `val`; killed, it goes on.

Nothing here reads `test` or `novel`, by which the choice is judged later.
"""

from typing import Any

from salon.data.dataset import Dataset
from salon.devices import inference_device
from salon.evaluation.results_cache import ResultsCache
from salon.evaluation.sampling import BatchSampler, load_trained
from salon.evaluation.search import search
from salon.files import whole_folder, write_json
from salon.fingerprint import fingerprint
from salon.judging.selection import Selection
from salon.judging.trials import SPLITS, TrialJury
from salon.params import Params
from salon.paths import Paths
from salon.towers.states import TextStateCache
from salon.training.cost import LEDGER

SOURCES = (
    "codecs",
    "data/dataset.py",
    "evaluation",
    "images.py",
    "judging",
    "methods",
    "nn",
    "seeding.py",
    "stages/select.py",
    "towers",
)


def run(params: Params, paths: Paths, name: str) -> None:
    """Write `models/selected/<name>/`, `reports/selection/<name>.json` and the tables of its trials.

    Raises:
        SalonError: a stage before this one has not run, or `val` is too small.
    """
    settings = params.select
    # as the jury judges, but on prompts and noise of its own
    drawing = params.evaluate.model_copy(update={"pictures": settings.pictures, "seed": settings.seed})
    device = inference_device()
    method, ledger = load_trained(params, paths, name, paths.method(name), device)
    data = Dataset(paths.interim).only(*SPLITS)
    sampler = BatchSampler(method, TextStateCache.load(paths.text_states), drawing, device)
    key = fingerprint(
        [settings.model_dump(), drawing.model_dump(), device.type],
        files=[
            *data.shards(),
            *(paths.text_states, paths.clip, paths.codec(method.config.codec), paths.method(name)),
            *(paths.scorer, paths.retriever),
        ],
        sources=SOURCES,
    )
    cache = ResultsCache(paths.scratch / "select", name, key=key)
    jury = TrialJury(data, paths, drawing, device=device)
    found = search(sampler, jury, trials=settings.trials, seed=settings.seed, cache=cache)

    method.draw_with(found.settings)
    with whole_folder(paths.selected(name)) as folder:
        method.save_pretrained(folder)
        write_json(folder / LEDGER, {**ledger, "selection": found.cost})
    write_json(paths.tradeoff(name), _table(found, "draw_ms_p50"))
    write_json(paths.guidance(name), _table(found, "guidance_scale"))
    found.save(paths.selection(name))
    cache.discard()
    print(f"{name}: {found.reason}")


def _table(found: Selection, by: str) -> list[dict[str, Any]]:
    """A row per trial that has a figure of that name, in its order."""
    rows = [trial.row() for trial in found.trials]
    return sorted((row for row in rows if by in row), key=lambda row: row[by])
