"""One page that sets the methods side by side."""

from salon.params import Params
from salon.paths import Paths
from salon.report.compare import write_comparison
from salon.report.load import load_report_data


def run(params: Params, paths: Paths) -> None:
    """Write `reports/compare/index.html`.

    Raises:
        SalonError: a method's figures are missing, or the methods spent unequal budgets.
    """
    page = write_comparison(paths.compare, load_report_data(params, paths), params)
    print(f"compared {', '.join(params.methods)}: open {page}")
