"""Judge the sentinels as if they were methods, and let nothing be judged by a metric that misplaces them."""

from jaxtyping import UInt8
from torch import Tensor

from salon.codecs import load_codec
from salon.codecs.base import Codec
from salon.data.dataset import Dataset
from salon.data.ingest.worlds.base import open_composer
from salon.devices import inference_device
from salon.errors import GateError
from salon.evaluation.prompts import prompts_per_split
from salon.evaluation.sheets import empty_folder, save_sheet
from salon.files import write_json
from salon.judging.jury import Draw, Jury, judge_source, record
from salon.judging.memorisation import Channel
from salon.judging.metrics import sentinel_rules, withholdable
from salon.judging.reconstruction import reconstruct
from salon.judging.record import Gate, Judgement
from salon.judging.sentinel_rules import (
    COPYCAT,
    MEMORISER,
    NOISE,
    REAL,
    RETRIEVAL,
    SENTINELS,
    SHUFFLED,
    THROUGH_CODEC,
    check_rules,
)
from salon.judging.sentinels import CODED_AT_ONCE, Sentinels
from salon.judging.statistics import Estimate
from salon.params import Params
from salon.paths import Paths

SHEET_IMAGES = 16
EVERYWHERE = {REAL, COPYCAT, RETRIEVAL, SHUFFLED, NOISE}  # the others say something of known prompts alone
SEES_COPIES = 0.2  # largest share that the copy test may miss and still be held to where it puts sentinels


def run(params: Params, paths: Paths) -> None:
    """Write `reports/metrics/sentinel-<name>.json`, their pictures, `reports/codec_floors.json` and
    `reports/sentinels.json`.

    Pictures without attributes may be too diverse for neighbours among them to mean anything. A metric of
    neighbours that misplaces a sentinel there is withheld; any other closes the gate.

    Raises:
        GateError: a metric puts a sentinel where it cannot stand; the figures are written nevertheless.
    """
    settings = params.evaluate
    data = Dataset(paths.interim)
    composer = open_composer(params.ingest, archive=paths.root / params.ingest.path, seed=params.seed)
    device = inference_device()
    jury = Jury(data, paths, settings, device=device, over_drawings=False, composer=composer)
    codecs = {name: load_codec(paths.codec(name)) for name in params.codecs}
    sentinels = Sentinels(jury.alike, codecs)
    prompts = prompts_per_split(data, settings.pictures)
    del prompts["val"]  # nothing is chosen among sentinels

    figures = {}
    floors = {}
    for name in sentinels.names:
        asked = prompts if name in EVERYWHERE else {"test": prompts["test"]}
        seen = dict(judge_source(jury, asked, _source(sentinels, name, seed=settings.seed)))
        if name == COPYCAT:
            copycat = seen["test"]
        if name in SENTINELS:
            folder = empty_folder(paths.samples(f"sentinel-{name}"))
            save_sheet(folder / "test.png", seen["test"].images[:SHEET_IMAGES])
            file = paths.metrics(f"sentinel-{name}")
            record(seen).save(file)
            figures[name] = Judgement.load(file).estimates()  # the rules hold for what anybody can read
        else:
            judgement = record(seen)
            floors[name.removeprefix(THROUGH_CODEC)] = judgement.to_json()
            figures[name] = judgement.estimates()
        print(f"sentinel {name}: judged", flush=True)
    for name, codec in codecs.items():
        figures[MEMORISER + name] = judge_memoriser(jury, codec, copycat.images)
    write_json(paths.codec_floors, floors)
    try:
        gate = check_rules(
            figures,
            sentinel_rules(
                attributes=data.has_attributes,
                codecs=list(floors),
                shadows=jury.composer is not None,
                sees_copies=copycat.memorisation.detectable_rate <= SEES_COPIES,
            ),
            may_withhold=() if data.has_attributes else withholdable(),
        )
    except GateError as error:
        Gate(passed=False, broken=str(error)).save(paths.sentinels)
        raise
    gate.save(paths.sentinels)
    for reason in gate.withheld.values():
        print(f"sentinels: withheld, since it would mean nothing: {reason}")
    print(f"sentinels: {'the other' if gate.withheld else 'all'} {len(gate.rules)} rules hold")


def judge_memoriser(
    jury: Jury, codec: Codec, copies: UInt8[Tensor, "n 3 h w"]
) -> dict[tuple[str, ...], Estimate]:
    """What the copy test says of training pictures that a method on a codec draws from memory."""

    def restore(images: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w"]:
        return reconstruct(codec, images, batch=CODED_AT_ONCE)[0]

    test = jury.copy_test(Channel(lambda rows: restore(rows.images), restore))
    found = test.judge(restore(copies), bootstrap_samples=jury.settings.bootstrap_samples)
    return {("memorisation", name): share for name, share in found.shares.estimates().items()}


def _source(sentinels: Sentinels, name: str, *, seed: int) -> Draw:
    return lambda _, asked, repeat: sentinels.answer(name, asked, seed=seed, repeat=repeat)
