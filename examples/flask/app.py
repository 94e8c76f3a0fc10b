"""A shop front in Flask. Importing it starts no server."""

from flask import Flask, jsonify, render_template, request

from deferlite import defer

app = Flask(__name__)
app.config["SENDER"] = "orders@example.org"


@defer(retry=3)
def mail_invoice(customer: str, lines: dict[str, float]) -> str:
    """Renders the mail with the application's own templates and settings."""
    with app.app_context():
        return render_template("invoice.txt", customer=customer, lines=lines, total=sum(lines.values()))


@app.post("/orders")
def order() -> object:
    """Answers at once; the mail is written in the background."""
    sold = request.get_json()
    execution = mail_invoice(sold["customer"], sold["lines"])
    return jsonify(execution=execution.id), 202


if __name__ == "__main__":
    app.run()
