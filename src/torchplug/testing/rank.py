"""One of the two processes of `ranks`: reads fits as lines of JSON, and answers each with a line."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what components print must not stand between the answers
    import torch

    from torchplug.registry.foreign_code import one_line
    from torchplug.testing.fits import job_result

    torch.set_num_threads(1)
    _answer(answers)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            torch.save(job_result(asked["job"]), asked["file"])
        except BaseException as error:
            _answer(answers, error=one_line(error)[:300])
        else:
            _answer(answers)


def _answer(answers: TextIO, **content: str) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
