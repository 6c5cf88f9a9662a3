"""Customers: four tiers share the workers fairly; limits, rates, quotas, priorities, usage and invoices."""
