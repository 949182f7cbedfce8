"""What FastAPI itself costs: a catch-all route that answers at once and has no upstream."""

from fastapi import FastAPI, Request, Response

from benchmarks.payloads import SMALL_BODY

app = FastAPI()


@app.api_route("/{path:path}", methods=["GET", "POST"], response_model=None)
async def index(_: Request) -> Response:
    return Response(SMALL_BODY, media_type="application/json")
