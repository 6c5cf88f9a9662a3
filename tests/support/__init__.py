"""What tests share: servers, databases, waiting. Not collected as tests."""
