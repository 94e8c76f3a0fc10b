"""The words of deferlite as data: pure, no I/O."""
