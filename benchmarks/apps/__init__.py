"""One ASGI app for each contestant. Each reads the address of its upstream from the environment."""
