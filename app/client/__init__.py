"""What other programs install, as the package `tandem`: enqueue and publish in their own transaction.

Needs psycopg alone and imports nothing of the service.
"""
