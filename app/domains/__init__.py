"""The applications on the queue. They do not know each other: they hand over by a contract and a job."""
