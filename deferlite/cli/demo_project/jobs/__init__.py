"""The demo's background functions."""
