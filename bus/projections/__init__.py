"""Tables derived from the log: appended by a projector whose position is part of the very commit it describes."""
