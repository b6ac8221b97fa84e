"""Other people's tools: what pydnn writes for them, and what it reads of theirs."""
