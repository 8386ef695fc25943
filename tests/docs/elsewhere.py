"""Commands that the pages name and this reader does not type: why, and which test runs the same thing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Elsewhere:
    """A test that runs what a command runs."""

    test: str
    why: str


COMMANDS = "tests/docs/test_commands.py"
SWEEP = Elsewhere(
    "tests/pipeline/test_sweep.py::test_queued_experiments_rerun_only_what_they_change",
    "typed from that very page, with fewer values",
)
SUITE = Elsewhere(f"{COMMANDS}::test_a_page_says_what_works", "it is this very run")
OWN_CAPTIONS = Elsewhere(
    "tests/docs/test_captions_page.py::test_commands_run", "on a folder of somebody's own, as the page has it"
)
PROFILES = Elsewhere(
    "tests/params/test_profiles.py::test_a_profile_changes_what_it_names_and_nothing_else",
    "every profile, on a copy of params.yaml",
)

ELSEWHERE = {
    "git clone <this repository> salon && cd salon": Elsewhere(
        f"{COMMANDS}::test_the_first_line_gets_a_whole_repository",
        "what follows is typed in a clone that already ran",
    ),
    "make test": SUITE,
    "make test PYTEST_ARGS='-m \"not pipeline\"'": SUITE,
    "python -m pytest tests/data -q": SUITE,
    "make lint": Elsewhere(
        f"{COMMANDS}::test_the_style_is_kept", "mypy takes minutes when its cache is cold"
    ),
    "salon ingest": OWN_CAPTIONS,
    "salon validate": OWN_CAPTIONS,
    "python -c \"import pandas; print(pandas.read_parquet('data/interim/quarantine.parquet')"
    ".groupby('reason').row.agg(['size', 'first']))\"": OWN_CAPTIONS,
    "pip install -e '.[hub]'": Elsewhere(
        f"{COMMANDS}::test_extras_on_the_pages_exist", "installs; what it names is looked up"
    ),
    "make env": Elsewhere(
        "tests/architecture/test_layout.py::test_a_half_built_environment_is_begun_anew",
        "installs a gigabyte; the plan of make is checked",
    ),
    "make env TORCH_PIP_ARGS='--index-url <index of CUDA wheels>'": Elsewhere(
        f"{COMMANDS}::test_cuda_wheels_are_asked_for_where_torch_is_installed",
        "installs three gigabytes; the plan of make is checked",
    ),
    "make lock": Elsewhere(
        "tests/architecture/test_layout.py::test_the_lock_pins_everything_for_every_machine",
        "installs everything anew; its result is checked",
    ),
    "make check-data": Elsewhere(
        "tests/pipeline/test_workflows.py::test_check_data_tells_the_job_what_is_wrong",
        "the small world is not like the accepted data, and is told so",
    ),
    "mlflow models serve": Elsewhere(
        "tests/server/test_http.py::test_every_form_of_request_gives_the_same_png",
        "with a model, which it needs",
    ),
    "make smoke": Elsewhere(
        "tests/pipeline/test_pipeline.py::test_every_stage_runs_once",
        "the same clone, made and run by the same code",
    ),
    "make notebooks": Elsewhere(
        "tests/docs/test_notebooks.py::test_both_run_from_top_to_bottom", "by the same script"
    ),
    "salon seeds --profile smoke --seeds 3": Elsewhere(
        "tests/commands/test_seeds.py::test_towers_codecs_and_methods_are_trained_anew_and_data_and_jury_once",
        "fifteen trainings",
    ),
    "salon profile emoji64": PROFILES,
    "salon profile scenes2": PROFILES,
    "python benchmarks/profiles.py scenes2 emoji64": Elsewhere(
        "tests/params/test_profiles.py::test_a_profile_changes_what_it_names_and_nothing_else",
        "takes twenty minutes; that the profiles' settings are whole is checked for each",
    ),
    "python benchmarks/training.py --device cuda": Elsewhere(
        "tests/architecture/test_benchmarks.py::test_training_prints_a_line_for_every_method", "on a CPU"
    ),
    "export MLFLOW_TRACKING_URI=http://…": Elsewhere(
        f"{COMMANDS}::test_a_page_says_what_works", "typed on the page about it, with a server that answers"
    ),
    "dvc exp run -S methods.diffusion.lr=0.0005": SWEEP,
    'git add --all && git commit -m "What the sweep starts from"': SWEEP,
    "export MLFLOW_TRACKING_URI=sqlite:///$PWD/sweep.db": SWEEP,
    "dvc exp run --queue --name lr -S 'methods.dalle.lr=0.001,0.003,0.01' register@dalle": SWEEP,
    "dvc queue start": SWEEP,
    "dvc queue start --jobs 2": SWEEP,
    "dvc queue status": SWEEP,
    "dvc queue logs lr-1": SWEEP,
    "dvc exp show --md --hide-workspace --drop "
    "'(?!Experiment|methods.dalle.lr|.*dalle.json:val.alignment.all)'": SWEEP,
    "dvc exp apply lr-2": SWEEP,
    "dvc repro register@ridge": Elsewhere(
        "tests/pipeline/test_sixth_method.py::test_one_file_and_one_entry_make_a_sixth_method",
        "with the file and the entry of that very page",
    ),
    "python -m pytest tests/methods/test_contract.py -k ridge": Elsewhere(
        "tests/pipeline/test_sixth_method.py::test_it_keeps_the_contract", "where the file of the page lies"
    ),
    "torchrun --nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d --rdzv-endpoint=<host>:29400 "
    "-m salon train diffusion": Elsewhere(
        "tests/training/test_distributed.py::test_two_processes_learn_what_one_does",
        "two processes with the variables that torchrun gives them; the tests have one machine",
    ),
    "pip install 'mlflow==3.17.2' 'psycopg[binary]>=3.2,<4'": Elsewhere(
        f"{COMMANDS}::test_the_server_is_of_the_client_s_version", "installs on another machine"
    ),
}
