"""The processes of a job that trains in several: where they meet, whether they run the same, what became of each."""
