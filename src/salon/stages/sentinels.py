"""Judge the sentinels as if they were methods, and let nothing be judged by a metric that misplaces them."""

from salon.data.dataset import Dataset
from salon.devices import inference_device
from salon.errors import GateError
from salon.evaluation.prompts import prompts_per_split
from salon.evaluation.sheets import empty_folder, save_sheet
from salon.judging.jury import Draw, Jury, judge_source, record
from salon.judging.metrics import sentinel_rules, withholdable
from salon.judging.record import Gate, Judgement
from salon.judging.sentinel_rules import check_rules
from salon.judging.sentinels import NAMES, Sentinels
from salon.params import Params
from salon.paths import Paths

SHEET_IMAGES = 16


def run(params: Params, paths: Paths) -> None:
    """Write `reports/metrics/sentinel-<name>.json`, their pictures, and `reports/sentinels.json`.

    Pictures without attributes may be too diverse for neighbours among them to mean anything. A metric of
    neighbours that misplaces a sentinel there is withheld; any other closes the gate.

    Raises:
        GateError: a metric puts a sentinel where it cannot stand; the figures are written nevertheless.
    """
    settings = params.evaluate
    data = Dataset(paths.interim)
    jury = Jury(data, paths, settings, device=inference_device(), over_drawings=False)
    sentinels = Sentinels(data["train"])
    prompts = prompts_per_split(data, settings.pictures)

    figures = {}
    for name in NAMES:
        seen = dict(judge_source(jury, prompts, _source(sentinels, name, seed=settings.seed)))
        folder = empty_folder(paths.samples(f"sentinel-{name}"))
        save_sheet(folder / "test.png", seen["test"].images[:SHEET_IMAGES])
        file = paths.metrics(f"sentinel-{name}")
        record(seen).save(file)
        figures[name] = Judgement.load(file).estimates()  # the rules hold for what anybody can read
        print(f"sentinel {name}: judged")
    try:
        gate = check_rules(
            figures,
            sentinel_rules(attributes=data.has_attributes),
            may_withhold=() if data.has_attributes else withholdable(),
        )
    except GateError as error:
        Gate(passed=False, broken=str(error)).save(paths.sentinels)
        raise
    gate.save(paths.sentinels)
    for reason in gate.withheld.values():
        print(f"sentinels: withheld, since it would mean nothing: {reason}")
    print(f"sentinels: {'the other' if gate.withheld else 'all'} {len(gate.rules)} rules hold")


def _source(sentinels: Sentinels, name: str, *, seed: int) -> Draw:
    return lambda _, asked, repeat: sentinels.answer(name, asked, seed=seed, repeat=repeat)
