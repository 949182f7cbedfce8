"""The peers that the tests talk to, all of them real: sockets, servers, frameworks.

- `upstream` and `scripts`: an upstream that does what a test says; `exchange` is what a script gets
- `client`: a raw HTTP/1.1 client; `wire`: the octets of both
- `servers`, `processes`: an app under each server, in a thread or as a process
- `apps`: an app mounted in each framework; `direct`: an app called with no server; `asgi`: types
- `fleet`: upstreams as processes that are killed and stopped; `failing`: such as fail on order
- `load`: many clients
- `authority`: certificates; `leaks`: what is left behind
"""
