"""How every command looks, fails and is interrupted; imported by all rooms, imports none."""
