"""Keras, set up to give the same numbers on every run of one machine.

Importing this loads TensorFlow, which takes seconds and half a gigabyte: only what a child process runs does so
(the targets of `annotator.jobs`), never a module that the app or the command line imports.

Two threads within an operation and one operation at a time: as many cores as a small laptop has. The order of additions
depends on the number of threads, and with it what a training ends in: it is the same on every machine, whatever runs
beside and whatever TensorFlow's own variable says.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever ~/.keras says
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

__all__ = ["keras", "tf"]

N_THREADS = 2

keras.config.set_floatx("float32")
tf.config.threading.set_intra_op_parallelism_threads(N_THREADS)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.experimental.enable_op_determinism()
