"""Metrics of samples against real data: functions of sets, on the host."""
