"""What is done to a patch before a network learns from it.

- ``recipes``: the names, the groups, the strengths; nothing heavy, for the declarations of actions.
- ``orientation``: mirrors and quarter turns.  ``warp``: rotation, scaling, elastic deformation as one interpolation.
- ``grey_values``: brightness, contrast, gamma, noise, blur, resolution.  ``microscope``: what electron microscopes do.
- ``augmenter``: all of it for the patches of one sample.
"""
