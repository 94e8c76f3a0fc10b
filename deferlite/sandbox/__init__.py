"""The only room that starts processes: levels, boxes, process trees, the parent's half of the runner."""
