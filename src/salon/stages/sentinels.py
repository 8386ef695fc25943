"""Judge the sentinels as if they were methods, and let nothing be judged by a metric that misplaces them."""

import shutil

import torch

from salon.data.dataset import Dataset
from salon.devices import inference_device
from salon.errors import GateError
from salon.evaluation.prompts import prompts_per_split, select_first
from salon.files import write_json
from salon.images import image_grid, to_float
from salon.judging.jury import DIVERSITY_PICTURES, DIVERSITY_PROMPTS, Jury
from salon.judging.sentinel_rules import ATTRIBUTE_RULES, MANIFOLD, RULES, check_rules
from salon.judging.sentinels import NAMES, Sentinels
from salon.params import Params
from salon.paths import Paths

SHEET_PICTURES = 16


def run(params: Params, paths: Paths) -> None:
    """Write `reports/metrics/sentinel-<name>.json`, their pictures, and `reports/sentinels.json`.

    Pictures without attributes may be too diverse for neighbours among them to mean anything. A metric of
    neighbours that misplaces a sentinel there is withheld; any other closes the gate.

    Raises:
        GateError: a metric puts a sentinel where it cannot stand; the figures are written nevertheless.
    """
    settings = params.evaluate
    data = Dataset(paths.interim)
    jury = Jury.open(paths, settings, data=data, device=inference_device())
    sentinels = Sentinels(jury.training)
    prompts = prompts_per_split(data, settings.pictures)
    repeated = select_first(prompts["test"], DIVERSITY_PROMPTS)

    metrics: dict[str, dict[str, object]] = {}
    for name in NAMES:
        figures: dict[str, object] = {}
        for split, asked in prompts.items():
            images = sentinels.answer(name, asked, seed=settings.seed)
            place, _, kind = split.partition("/")
            found = jury.alignment(jury.look(asked, images))
            if split == "test":
                further = [
                    sentinels.answer(name, repeated, seed=settings.seed, repeat=repeat)
                    for repeat in range(1, DIVERSITY_PICTURES)
                ]
                found |= jury.fidelity(images, further)
                figures["memorisation"] = jury.memorisation(images).to_json()
                _save_sheet(paths, name, images)
            if kind:
                figures.setdefault(place, {})[kind] = found  # type: ignore[index]
            else:
                figures[place] = found
        metrics[name] = figures
        write_json(paths.metrics(f"sentinel-{name}"), figures)
        print(f"sentinel {name}: judged")
    try:
        if jury.knows_attributes:
            findings = check_rules(metrics, ATTRIBUTE_RULES)
        else:
            findings = check_rules(metrics, RULES, may_withhold=MANIFOLD)
    except GateError as error:
        write_json(paths.sentinels, {"passed": False, "broken": str(error), "rules": [], "withheld": {}})
        raise
    verdict = {"passed": True, "broken": "", "rules": findings.kept, "withheld": findings.withheld}
    write_json(paths.sentinels, verdict)
    for reason in findings.withheld.values():
        print(f"sentinels: withheld, since it would mean nothing: {reason}")
    print(f"sentinels: {'the other' if findings.withheld else 'all'} {len(findings.kept)} rules hold")


def _save_sheet(paths: Paths, name: str, images: torch.Tensor) -> None:
    folder = paths.samples(f"sentinel-{name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    zoom = max(1, 96 // images.shape[-1])
    image_grid(to_float(images[:SHEET_PICTURES]), columns=8, zoom=zoom).save(folder / "test.png")
