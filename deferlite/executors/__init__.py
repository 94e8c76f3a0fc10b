"""The seam between the queue and the machines that run its executions."""
