"""HTTP: the public API of Defer, the admin API, and the page."""
