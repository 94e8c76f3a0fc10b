"""Time sheets. The version is the installed package's, as many packages ask for their own."""

from importlib.metadata import version

__version__ = version("timesheets")
