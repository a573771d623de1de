"""The ranks of a job: rendezvous, comparison of what they run, and how each of them ended."""
