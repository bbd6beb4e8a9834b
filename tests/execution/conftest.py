"""A progress display that only remembers."""

import pytest


class Notes:
    def __init__(self):
        self.labels, self.failures, self.warnings = [], [], []

    def total(self, weight, jobs):
        self.promised = jobs

    def started(self, job):
        pass

    def advanced(self, job, share):
        assert 0 <= share <= 1

    def finished(self, job, seconds):
        self.labels.append(job.label)

    def failed(self, job, reason):
        self.failures.append(reason)

    def noted(self, message):
        pass

    def warned(self, message):
        self.warnings.append(message)


@pytest.fixture
def notes():
    return Notes()
