"""Contacts that come in by spreadsheet."""

import phonenumbers

from deferlite import defer


@defer(retry=2)
def import_contacts(company: str, contacts: list[dict[str, str]], country: str = "FR") -> dict[str, object]:
    """Reads phone numbers as people write them; what is none is told by name."""
    good, bad = [], []
    for contact in contacts:
        try:
            number = phonenumbers.parse(contact["phone"], country)
        except phonenumbers.NumberParseException:
            bad.append(contact["name"])
            continue
        good.append(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
    return {"company": company, "imported": good, "rejected": bad}
