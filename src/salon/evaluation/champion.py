"""A registered model before today's jury, where it was judged on other rows or by another judge."""

from pathlib import Path

from salon.data.dataset import Dataset
from salon.devices import inference_device
from salon.evaluation.prompts import prompts_per_split
from salon.evaluation.sampling import BatchSampler
from salon.files import read_json
from salon.inference.bundle import METHOD, read_models
from salon.inference.model import ModelCache
from salon.judging.jury import Jury
from salon.judging.leakage import refuse_leaks
from salon.params import Params
from salon.paths import Paths
from salon.towers.states import TextStateCache


def judge_bundle(params: Params, paths: Paths, bundle: Path) -> dict[str, float]:
    """Per validation prompt, whether the picture of a registered model is all right, by today's jury.

    Raises:
        SalonError: the installed package is not the model's code, or it was trained with what would judge it.
    """
    device = inference_device()
    refuse_leaks(read_json(bundle / METHOD / "training.json"), method="the registered model")
    ((_, package),) = read_models(bundle).items()
    model = ModelCache().load(package, version="to be judged")
    data = Dataset(paths.interim)
    prompts = prompts_per_split(data, params.evaluate.pictures)["val"]
    captions = sorted(set(prompts.captions))
    cache = TextStateCache(captions, model.encoder.tower.encode_text(captions))
    jury = Jury(data, paths, params.evaluate, device=device)
    sampler = BatchSampler(model.method.to(device), cache, params.evaluate, device)
    judged = jury.judge(prompts, sampler.draw(prompts))
    return {image.id: float(all(image.right.values())) for image in judged}
