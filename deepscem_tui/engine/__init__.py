"""The engine: data sets, networks, training, prediction and evaluation, with no knowledge of a terminal.

Its packages, each of which imports only those above it, but for two lines that ``tests/test_architecture.py`` names:

=================== ================================================================================================
``system``          devices and memory, processes, disks; files written whole or not at all, locks
``augmentation``    what is done to patches
``datasets``        DeepSCEM's HDF5 files: read, made and changed in place; files of others opened first in a process
                    that may crash; what is not labelled; what two data sets have in common
``networks``        U-Net and FCN as graphs, their layers and sizes
``formats``         image files in and out: a table of their formats, and what reads and writes each
``patches``         where patches are drawn, and what makes batches of them
``parameters``      the declaration of each action; ``actions`` registers them all
``labels``          label files, and which part of a sample is labelled
``models``          model files, and what they say without TensorFlow
``sources``         images read slab by slab, wherever they lie; their grey values and voxel sizes
``dataset_actions`` what is done to data sets and samples
``objects``         single objects in masks: cleaned, counted, scored
``evaluation``      voxel by voxel
``runs``            run folders: written while a run works, watched, resumed, compared
``viewing``         slices for whoever looks at them
``prediction``      tiles planned, computed in a pipeline, joined slab by slab
``training``        plan, loop, checkpoints, validation
``planning``        a network and a training proposed for a data set
``sharing``         models for other programs
=================== ================================================================================================

What computes with TensorFlow is imported when an action is carried out.
"""
