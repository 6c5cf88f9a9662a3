"""Topics: publish and consume on the queue's own transactional path, with groups, replay, roles and an audit log."""
