"""Settings that decide what TensorFlow computes and where: threads, devices, precision, the choice of algorithms."""

from __future__ import annotations

import os
import resource

import keras
import tensorflow as tf

from harness.errors import MissingRequirementError
from harness.spec import DType, Job


def fix_arithmetic(job: Job, dtype: DType) -> None:
    """Fix default precision, TF32, random state and the choice of algorithms, so that two runs compute the same."""
    keras.backend.set_floatx(dtype)
    keras.utils.set_random_seed(job.seed)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if job.purpose == "parity":
        tf.config.experimental.enable_op_determinism()


def claim_devices(job: Job, num_replicas: int) -> tuple[str, ...]:
    """Fix the threads of this process and return a device for each of its ``num_replicas``.

    On CPU the replicas are logical devices, and the process's ``num_threads`` are shared out among them. TensorFlow
    takes these settings only before its first op, so the process must be a fresh one.

    Raises:
        MissingRequirementError: there are fewer GPUs than replicas.
    """
    # Replicas run side by side, each in a thread of its own, and an op of each may use this many.
    tf.config.threading.set_inter_op_parallelism_threads(job.world_size)
    tf.config.threading.set_intra_op_parallelism_threads(max(1, job.num_threads // num_replicas))
    if job.device == "cpu":
        tf.config.set_visible_devices([], "GPU")
        logical = [tf.config.LogicalDeviceConfiguration() for _ in range(num_replicas)]
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
        return tuple(f"CPU:{index}" for index in range(num_replicas))
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) < job.world_size:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise MissingRequirementError(
            f"needs {job.world_size} CUDA devices, TensorFlow found {len(gpus)} (CUDA_VISIBLE_DEVICES={visible}); "
            "use fewer ranks, or a TensorFlow built with CUDA"
        )
    first = job.rank if job.gpu is None else job.gpu
    own = gpus[first : first + num_replicas]
    tf.config.set_visible_devices(own, "GPU")
    for gpu in own:
        tf.config.experimental.set_memory_growth(gpu, True)
    return tuple(f"GPU:{index}" for index in range(num_replicas))


def drain(devices: tuple[str, ...]) -> None:
    """Wait until nothing is in flight here; tf.test.experimental.sync_devices would ask other processes, too."""
    for device in devices:
        with tf.device(device):
            tf.raw_ops.SyncDevice()


def peak_memory(job: Job, devices: tuple[str, ...]) -> int:
    """Return the peak memory of this process in bytes: that of its fullest GPU, or resident."""
    if job.device == "cuda":
        return max(int(tf.config.experimental.get_memory_info(device)["peak"]) for device in devices)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
