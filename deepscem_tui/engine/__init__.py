"""The engine: data sets, networks, training, prediction and evaluation, with no knowledge of a terminal.

From what is used everywhere down to what uses it:

=================== ================================================================================================
``system``          devices and memory, processes, disks; files written whole or not at all, locks
``datasets``        DeepSCEM's HDF5 files: read, made and changed in place; files of others opened first in a process
                    that may crash; what is not labelled; what two data sets have in common
``formats``         image files in and out: a table of their formats, and what reads and writes each
``sources``         images read slab by slab, wherever they lie, and what their grey values become
``labels``          label files, and which part of a sample is labelled
``networks``        U-Net and FCN as graphs, their layers and sizes; ``models`` are their files
``evaluation``      voxel by voxel; ``objects`` counts, cleans and scores whole objects
``runs``            run folders: written while a run works, watched, resumed, compared
``prediction``      tiles planned, computed in a pipeline, joined slab by slab
``augmentation``    what is done to patches, which ``patches`` draws
``training``        plan, loop, checkpoints, validation
``planning``        a network and a training proposed for a data set
``dataset_actions`` what is done to data sets and samples
``sharing``         models for other programs
``viewing``         slices for whoever looks at them
``parameters``      the declaration of each action; ``actions`` registers them all
=================== ================================================================================================

What computes with TensorFlow is imported when an action is carried out.
"""
