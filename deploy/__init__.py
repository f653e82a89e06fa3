"""What the transforms need where they run: engines on this machine, images, templates."""
