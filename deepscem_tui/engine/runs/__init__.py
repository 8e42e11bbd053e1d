"""Run folders: written while a run works, watched, resumed, compared."""
