"""Feeds for readers."""

import feedgenerator

from deferlite import defer


@defer
def publish_feed(title: str, stories: list[str]) -> dict[str, object]:
    """An Atom feed of the stories, newest first."""
    feed = feedgenerator.Atom1Feed(title=title, link="/", description=title)
    for story in reversed(stories):
        feed.add_item(title=story, link=f"/{len(story)}", description=story, unique_id=story)
    text = feed.writeString("utf-8")
    return {"entries": text.count("<entry>"), "first": stories[-1], "title_is_there": title in text}
