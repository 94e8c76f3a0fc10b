"""Contacts in FastAPI. Start it with `uvicorn main:app`; importing it starts nothing."""

from fastapi import FastAPI
from pydantic import BaseModel, Field

from deferlite import defer

app = FastAPI()


class Contact(BaseModel):
    name: str = Field(min_length=1)
    age: int | None = None


@defer(retry=5, concurrency=2)
async def import_contacts(company: str, contacts: list[dict[str, object]]) -> dict[str, object]:
    """Checks every contact as the routes do: a wrong one fails the execution with pydantic's words."""
    read = [Contact.model_validate(contact) for contact in contacts]
    return {"company": company, "names": [contact.name for contact in read], "ages": [one.age for one in read]}


@app.post("/companies/{company}/contacts", status_code=202)
async def post_contacts(company: str, contacts: list[Contact]) -> dict[str, str]:
    """Answers at once; the contacts are imported in the background."""
    execution = await import_contacts(company, [contact.model_dump() for contact in contacts])
    return {"execution": execution.id}
