"""Kept for tools that ask for it; setup.cfg has the settings."""

from setuptools import setup

setup()
