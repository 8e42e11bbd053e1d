"""Parts that screens are made of: they know the engine and what is drawn, not the application."""
