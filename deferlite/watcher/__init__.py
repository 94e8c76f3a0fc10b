"""Notices what changes outside: environment files, and the repositories they name."""
