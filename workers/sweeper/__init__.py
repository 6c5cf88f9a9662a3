"""The sweeper: one leader moves due jobs, takes back expired leases, keeps the floors, and repairs what was missed."""
