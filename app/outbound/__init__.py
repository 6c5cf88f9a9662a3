"""What leaves the service: mail and signed webhooks, to addresses that strangers chose. Knows no domain."""
