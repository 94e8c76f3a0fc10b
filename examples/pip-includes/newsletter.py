"""Newsletters, written in Markdown."""

from markdown_it import MarkdownIt

from deferlite import defer

markdown = MarkdownIt("commonmark", {"linkify": True}).enable("linkify")


@defer(retry=3)
def render_newsletter(text: str) -> str:
    """The HTML of a newsletter; addresses in the text become links."""
    return markdown.render(text).strip()
