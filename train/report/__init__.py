"""What a run says of itself: rows and where they go, the screen, the summary, the page."""
