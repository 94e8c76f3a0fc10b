"""What runs inside the user's interpreter, started by path. Standard library only."""
