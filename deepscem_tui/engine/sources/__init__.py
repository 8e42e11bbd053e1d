"""Images to read slab by slab, wherever they lie, and what their grey values become."""
