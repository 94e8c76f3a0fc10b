"""A shop. Its background functions are in orders.py, mail.py and reports.py."""
