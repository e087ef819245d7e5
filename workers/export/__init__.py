"""What goes out with an exported model: scripts that need none of this project, and what they ask it by."""
