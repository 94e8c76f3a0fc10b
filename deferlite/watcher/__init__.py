"""Notices what changes outside: environment files, the repositories they name, and the branches of those."""
