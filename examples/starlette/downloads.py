"""Downloads in Starlette. Start it with `uvicorn downloads:app`; importing it starts nothing."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from deferlite import defer


@defer(retry=3)
async def mail_download(customer: str, order: int) -> dict[str, str]:
    """A mail with the address of the download, which the application's own routes make."""
    return {"to": customer, "link": str(app.url_path_for("download", order=order))}


async def buy(request: Request) -> JSONResponse:
    execution = await mail_download(request.query_params["customer"], 1)
    return JSONResponse({"execution": execution.id}, 202)


async def download(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"order {request.path_params['order']}")


app = Starlette(routes=[Route("/buy", buy, methods=["POST"]), Route("/orders/{order:int}/file", download)])
