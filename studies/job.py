"""`python -m studies.job SLUG SIZE SEED OUT [DATA]`: one study at one seed, in a process and on a thread of
its own; a job that fails or is killed takes no other with it. The parent sets the thread counts and reads OUT."""

import sys
import time

import torch

from memfast.runtime.files import write_json
from studies import data, results
from studies.study import study_of


def main(slug: str, size_name: str, seed: str, out: str, folder: str = "") -> None:
    torch.set_num_threads(1)
    data.use(folder or None)
    study = study_of(slug)
    started, cpu_started = time.monotonic(), time.process_time()
    result = study.run(study.size(size_name), int(seed))
    write_json(out, results.entry(int(seed), result, time.monotonic() - started, time.process_time() - cpu_started))


if __name__ == "__main__":
    main(*sys.argv[1:])
