"""An address book that has been there for a while."""
