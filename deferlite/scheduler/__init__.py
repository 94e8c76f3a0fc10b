"""What runs when: the one claim, the timers, recovery."""
