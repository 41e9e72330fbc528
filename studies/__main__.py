"""`python -m studies`: re-run the papers' claims and rebuild docs/evidence.md.

Each study runs once a seed, in a process and on a thread of its own. Exit code 1: a job failed; the others' results
stand.
"""

import argparse
from pathlib import Path

from studies import page
from studies.runner import Job, run_jobs
from studies.study import studies

SIZES = ("quick", "full", "tiny")


def main(arguments: list[str] | None = None) -> int:
    found = studies()
    options = _options([study.slug for study in found], arguments)
    chosen = [study for study in found if options.study is None or study.slug in options.study]
    out = Path(options.out) if options.out else None
    failed: list[Job] = []
    if not options.page_only:
        jobs = [Job(study, study.size(options.size), seed) for study in chosen for seed in range(options.seeds)]
        failed = run_jobs(
            jobs, workers=options.jobs, data=options.data, resume=options.resume, folder=out and out / "results"
        )
    if options.size != "tiny":
        print(f"wrote {page.build(out and out / 'results', out)}")
    for job in failed:
        print(f"failed: {job}")
    return 1 if failed else 0


def _options(slugs: list[str], arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m studies", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="size", action="store_const", const="quick", help="minutes on 2 cores (default)")
    size.add_argument("--full", dest="size", action="store_const", const="full", help="hours, or a GPU")
    size.add_argument("--tiny", dest="size", action="store_const", const="tiny", help="seconds; needs --out; no page")
    parser.add_argument("--study", nargs="+", choices=slugs, metavar="SLUG", help="some of: " + ", ".join(slugs))
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... (default 3)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default 2)")
    parser.add_argument("--data", metavar="DIR", help="folder of the data sets (default ../shared/data)")
    parser.add_argument("--resume", action="store_true", help="keep seeds that finished with the same settings")
    parser.add_argument("--page-only", action="store_true", help="only rebuild page and figures from the results")
    parser.add_argument("--out", metavar="DIR", help="write results and page here, not into the repository")
    parser.set_defaults(size="quick")
    options = parser.parse_args(arguments)
    if options.size == "tiny" and not options.out:
        parser.error("--tiny needs --out: its numbers mean nothing and do not belong into the repository")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
