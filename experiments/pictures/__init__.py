"""Pictures: functions from arrays to a PNG file."""
