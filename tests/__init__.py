"""Tests of the installed package, over real sockets; `support` holds the peers they talk to."""
