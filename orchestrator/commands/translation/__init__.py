"""`mtpareto translate`: lines read as they come, translated on a device or on several, written in order."""
