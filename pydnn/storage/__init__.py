"""Files on disk: each is written completely or not at all, and verified when it is read."""
