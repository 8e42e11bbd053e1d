"""The engine: data sets, networks, training, prediction and evaluation, with no knowledge of a terminal.

========== =================================================================================================
actions    ``parameters`` declares them, ``actions`` registers them, ``runs`` carries them out in a run folder
images     ``volumes`` opens and makes files, over ``tiff_*``, ``plain_files`` and ``volume_writer``
data sets  ``datasets`` reads, makes and changes them, over ``dataset_*``, ``journal`` and ``lock``;
           ``dataset_actions``, ``sample_*`` and ``distance`` are the actions on them
models     ``networks/`` builds, ``model_files`` stores (``model_info`` without TensorFlow), ``model_actions``
training   ``training`` checks and concludes, ``training_loop`` goes through the epochs, ``trainer`` computes with
           ``optimizers`` and ``distribution``, ``patches`` and ``augmentation`` feed it, ``validation`` judges with
           ``thresholds``, ``checkpoints`` keep it; ``losses`` and ``metrics``; ``training_checks`` and ``leaks`` warn;
           ``planning`` proposes it, from ``survey`` and ``proposal``
prediction ``prediction`` checks and concludes, ``tiled`` computes slab by slab, ``tiling`` lays the tiles,
           ``sources`` and ``prediction_output`` are its ends; ``evaluation`` scores
safety     ``probing`` lets ``probe_helper`` open files of others first, in a process that may crash
========== =================================================================================================

Imports point downwards only; what computes with TensorFlow is imported when an action is carried out.
"""
