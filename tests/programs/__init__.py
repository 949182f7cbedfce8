"""Programs that the tests run as processes of their own: they fork, end, or are measured."""
