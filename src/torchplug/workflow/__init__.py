"""The working method: comparing, cross-validating, searching, diagnosing. Nothing here prints."""
