"""The proof of the promise on a target that a team has: what is built in it, in every way, and what takes it away."""
