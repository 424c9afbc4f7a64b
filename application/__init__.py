"""What jobrec does for its users, on top of the domain's ports."""
