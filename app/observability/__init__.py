"""What a process tells about itself: metrics and logs, made from the facts that the other layers report."""
