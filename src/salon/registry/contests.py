"""The contests of one registered model: numbered, claimed before a picture is drawn, and never held twice.

A tag of the registered model, `contest.<number>`, says which version met which champion, so that the count
outlives workspaces and runs. What was found stands in a tag of the challenger's version: registered again it
is decided on that, and looking again costs and wins nothing. Another judge or another number of prompts makes
another contest.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from salon.errors import SalonError
from salon.judging.contest import Contest
from salon.params import RegisterParams
from salon.registry.promotion import Bout, PromotionEvidence
from salon.tracking.runs import Run, Store

CONTEST = "contest."  # and its number: tag of the registered model
FOUND = "contest_with."  # and the champion's version: tag of the challenger's
REPORT_FILE = "contest-{number}.json"
CLAIMS = 20
SETTLE_SECONDS = 1.0  # many times what a request takes

HoldContest = Callable[[ModelVersion, ModelVersion, int], Contest]
"""Has challenger and champion draw and judges them, in the contest of this number."""


def meet(
    store: Store,
    challenger: ModelVersion,
    champion: ModelVersion,
    evidence: PromotionEvidence,
    rule: RegisterParams,
    hold: HoldContest,
    *,
    exclusive: bool,
) -> Bout:
    """What the contest of two versions found, the first time or now.

    Raises:
        SalonError: they cannot be compared; that counts as no attempt, since nothing was seen.
    """
    client, number = store.client, str(champion.version)
    conditions = {"evaluation_set": evidence.evaluation_set, "prompts": rule.prompts}
    if known := _recall(client, challenger, number, conditions):
        return known
    contest_number, attempt = claim(client, challenger, number, exclusive=exclusive)
    try:
        contest = hold(challenger, champion, contest_number)
    except SalonError:
        client.delete_registered_model_tag(challenger.name, f"{CONTEST}{contest_number}")
        raise
    found = {"contest": contest.to_json(), "attempt": attempt, "conditions": conditions}
    who = challenger.name, str(challenger.version)
    client.set_model_version_tag(*who, f"{FOUND}{number}", json.dumps(found))
    report = {"number": contest_number, "challenger": who[1], "champion": number, **found}
    client.log_dict(str(challenger.run_id), report, REPORT_FILE.format(number=contest_number))
    Run(store, str(challenger.run_id)).log_metrics(_figures(contest), step=contest_number)
    return Bout(contest, attempt, number)


def claim(
    client: MlflowClient, challenger: ModelVersion, champion: str, *, exclusive: bool
) -> tuple[int, int]:
    """Number of a contest that nobody else holds, and how many this champion has stood with it.

    Unless nobody else can write, a number is read again when whoever took it, too, must have written.

    Raises:
        SalonError: others take every number first.
    """
    name, who = challenger.name, json.dumps({"champion": champion, "challenger": str(challenger.version)})
    for _ in range(CLAIMS):
        number = 1 + max(_claimed(client, name), default=0)
        try:
            client.set_registered_model_tag(name, f"{CONTEST}{number}", who)
        except MlflowException:  # a server turns away one of two that write one tag at once
            if exclusive:
                raise
        if not exclusive:
            time.sleep(SETTLE_SECONDS)
        claimed = _claimed(client, name)
        if claimed.get(number) == json.loads(who):
            before = [each for key, each in claimed.items() if key <= number]
            return number, sum(each["champion"] == champion for each in before)
    raise SalonError(f"{name}: others take the number of every contest: run it again")


def _claimed(client: MlflowClient, name: str) -> dict[int, dict[str, str]]:
    """Who met whom, by number."""
    tags = client.get_registered_model(name).tags
    return {
        int(key.removeprefix(CONTEST)): json.loads(value)
        for key, value in tags.items()
        if key.startswith(CONTEST)
    }


def _recall(
    client: MlflowClient, challenger: ModelVersion, champion: str, conditions: dict[str, Any]
) -> Bout | None:
    """What was found between these two under the same conditions, if they met."""
    tags = client.get_model_version(challenger.name, str(challenger.version)).tags
    try:
        found = json.loads(tags[f"{FOUND}{champion}"])
        if found["conditions"] != conditions:
            return None
        return Bout(Contest.from_json(found["contest"]), found["attempt"], champion)
    except (KeyError, TypeError, ValueError):
        return None  # never met, or in the form of another release


def _figures(contest: Contest) -> dict[str, float]:
    findings = {"alignment": contest.alignment, "diversity": contest.diversity}
    findings |= {f"likeness_{network}": found for network, found in contest.likeness.items()}
    return {
        f"contest/{name}{end}": value
        for name, found in findings.items()
        for end, value in (("_gain", found.gain), ("_error", found.error), ("_p", found.p()))
    }
