"""Races: whom a trial runs against, and when it is beaten for sure; never by a point estimate."""
