"""A logger that keeps what it is given."""

from __future__ import annotations

import logging


class Records(logging.Handler):
    """`Relay(…, logger=records.logger)`; `records.all` is then what was logged, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[logging.LogRecord] = []
        # Not one of the tree of loggers, which would outlive the test.
        self.logger = logging.Logger("relay.test")
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.all]
