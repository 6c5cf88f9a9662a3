"""The check-up behind `tandem doctor`: measures and asks, judges, and says the way out. Changes nothing."""
