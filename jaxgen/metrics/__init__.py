"""How samples compare with real data: functions of sets, on the host."""
