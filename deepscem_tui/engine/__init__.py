"""The engine: data sets, networks, training, prediction and evaluation, with no knowledge of a terminal.

========== =================================================================================================
actions    ``parameters`` declares them, ``actions`` registers them, ``runs`` carries them out in a run folder
images     ``volumes`` opens and makes files, over ``tiff_*``, ``plain_files`` and ``volume_writer``
data sets  ``datasets`` reads, makes and changes them, over ``dataset_*``, ``journal`` and ``lock``;
           ``dataset_actions``, ``sample_*`` and ``distance`` are the actions on them
models     ``networks/`` builds, ``model_files`` stores (``model_info`` without TensorFlow), ``model_actions``
training   ``training`` checks and concludes, ``training_loop`` goes through the epochs, ``trainer`` computes,
           ``patches`` and ``augmentation`` feed it; ``losses`` and ``metrics``
prediction ``prediction`` checks and concludes, ``tiled`` computes slab by slab, ``tiling`` lays the tiles,
           ``sources`` and ``prediction_output`` are its ends; ``evaluation`` scores
========== =================================================================================================

Imports point downwards only; what computes with TensorFlow is imported when an action is carried out.
"""
