"""The software development kit: what an application imports. Standard library only."""
